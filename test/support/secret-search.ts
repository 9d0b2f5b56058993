/** Looks for secrets where others could read them: process arguments, logs, and all that Temporal keeps. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Client } from '@temporalio/client';

export interface ArgumentWatch {
  /** The arguments of every process that was seen. */
  readonly seen: ReadonlySet<string>;
  stop(): void;
}

const LOOK_EACH_MS = 50;

/** Reads the arguments of all processes again and again. */
export function watchArguments(): ArgumentWatch {
  const seen = new Set<string>();
  const look = (): void => {
    for (const name of readdirSync('/proc')) {
      if (!/^\d+$/.test(name)) continue;
      try {
        seen.add(readFileSync(`/proc/${name}/cmdline`, 'utf8').replaceAll('\0', ' '));
      } catch {
        // It has ended.
      }
    }
  };
  const timer = setInterval(look, LOOK_EACH_MS);
  return { seen, stop: () => clearInterval(timer) };
}

/** Every file below a folder as text, by its name. */
export function textsBelow(folder: string): Map<string, string> {
  const names = readdirSync(folder, { recursive: true, withFileTypes: true });
  return new Map(
    names
      .filter(entry => entry.isFile())
      .map(({ parentPath, name }) => [join(parentPath, name), readFileSync(join(parentPath, name), 'utf8')]),
  );
}

/** All that Temporal keeps of each run: its history, payloads unpacked, and its description. By run. */
export async function temporalTexts(client: Client): Promise<Map<string, string>> {
  const texts = new Map<string, string>();
  for await (const { workflowId, runId } of client.workflow.list()) {
    const handle = client.workflow.getHandle(workflowId, runId);
    const [history, description] = await Promise.all([handle.fetchHistory(), handle.describe()]);
    texts.set(`${workflowId} ${runId}`, [...stringsIn(history), ...stringsIn(description.raw)].join('\n'));
  }
  return texts;
}

/** Bytes count as text: payloads are JSON in the end. */
function* stringsIn(value: unknown, depth = 0): Generator<string> {
  if (typeof value === 'string') yield value;
  else if (value instanceof Uint8Array) yield Buffer.from(value).toString('utf8');
  else if (typeof value === 'object' && value !== null && depth < 40) {
    for (const [key, part] of Object.entries(value)) {
      yield key;
      yield* stringsIn(part, depth + 1);
    }
  }
}

/** The lines of a private key, each of which gives it away. */
export const keyLines = (pem: string): string[] =>
  (/-----BEGIN [A-Z ]*PRIVATE KEY-----\n([^-]+)-----END/.exec(pem)?.[1] ?? '')
    .split('\n')
    .filter(line => line.length >= 16);
