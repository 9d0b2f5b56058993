/** Reads Prometheus' text format, and the tables of docs/metrics.md. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

export interface Sample {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

export interface Scrape {
  /** By name. */
  readonly types: ReadonlyMap<string, string>;
  readonly samples: readonly Sample[];
}

export async function scrape(address: string): Promise<Scrape> {
  const answer = await fetch(`http://${address}/metrics`);
  if (answer.status !== 200) throw new Error(`${address}: ${answer.status}`);
  const types = new Map<string, string>();
  const samples: Sample[] = [];
  for (const line of (await answer.text()).split('\n')) {
    const [, typed = '', type = ''] = /^# TYPE (\S+) (\S+)$/.exec(line) ?? [];
    if (typed !== '') types.set(typed, type);
    const [, name = '', labels = '', value = ''] = /^([a-z_]\w*)(?:\{(.*)\})? (\S+)$/.exec(line) ?? [];
    if (name !== '') samples.push({ name, labels: readLabels(labels), value: Number(value) });
  }
  return { types, samples };
}

const readLabels = (text: string): Record<string, string> =>
  Object.fromEntries(
    [...text.matchAll(/(\w+)="([^"]*)"/g)].map(([, name = '', value = '']) => [name, value]),
  );

/** The value of the one sample that has at least these labels; null when there is none. */
export function sampleValue(
  { samples }: Scrape,
  name: string,
  labels: Record<string, string> = {},
): number | null {
  const found = samples.filter(
    sample =>
      sample.name === name &&
      Object.entries(labels).every(([label, value]) => sample.labels[label] === value),
  );
  if (found.length > 1) throw new Error(`${found.length} samples of ${name} ${JSON.stringify(labels)}`);
  return found[0]?.value ?? null;
}

export interface DocumentedMetric {
  readonly type: string;
  readonly labels: readonly string[];
}

/** What the page says of each metric of ours, by name. */
export function documentedMetrics(root: string): ReadonlyMap<string, DocumentedMetric> {
  const page = readFileSync(join(root, 'docs', 'metrics.md'), 'utf8');
  const rows = page.matchAll(/^\| `(offsite_\w+)` \| (\w+) \| ([^|]*) \|/gm);
  return new Map(
    [...rows].map(([, name = '', type = '', labels = '']) => [
      name,
      { type, labels: [...labels.matchAll(/`(\w+)`/g)].map(([, label = '']) => label) },
    ]),
  );
}
