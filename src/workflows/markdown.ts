/** What the details of all workflows are made of: markdown, as Temporal's Web UI draws it. */
import { workflowInfo } from '@temporalio/workflow';
import { plainWords } from '../domain/plain-words.ts';

/** The page of another workflow, its newest run. From the UI's own root, whatever host serves it. */
export const workflowLink = (namespace: string, workflowId: string, text = workflowId): string =>
  `[${text}](/namespaces/${namespace}/workflows/${encodeURIComponent(workflowId)})`;

/** This run's page of what it waits for: attempts, the last failure, heartbeats. */
export function pendingLink(): string {
  const { namespace, workflowId, runId } = workflowInfo();
  const path = `/namespaces/${namespace}/workflows/${encodeURIComponent(workflowId)}/${runId}`;
  return `[*Pending Activities*](${path}/pending-activities)`;
}

/** Words from elsewhere, such as the other site's: one line, in which nothing is markup. */
export const plain = (words: string): string =>
  plainWords(words).replaceAll(/[\\`*_[\]<>|&]/g, found => `\\${found}`);

const BINARY_UNITS = ['KiB', 'MiB', 'GiB', 'TiB'] as const;

/** `200 MiB`, `1.5 GiB` */
export function size(sizeBytes: number): string {
  let value = sizeBytes;
  let unit = 'B';
  for (const next of BINARY_UNITS) {
    if (value < 1024) break;
    value /= 1024;
    unit = next;
  }
  return `${Number(value.toPrecision(3))} ${unit}`;
}

/** `2026-11-24 02:00:00Z` */
export const time = (timeMs: number): string =>
  `${new Date(timeMs).toISOString().slice(0, 19).replace('T', ' ')}Z`;
