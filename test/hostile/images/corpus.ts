/** Sound images to begin with: made by qemu-img, and by Offsite's own writer. */
import { open, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { ExtentMapBuilder } from '../../../src/domain/extent-map.ts';
import { type BackingFile, computeLayout } from '../../../src/images/qcow2/layout.ts';
import { writeQcow2 } from '../../../src/images/qcow2/writer.ts';
import { qemuImg, qemuIo, withTempDir } from '../../support/qemu.ts';
import { MemoryFile, MemoryFolder, ROOT } from './memory-file.ts';
import { findSites, type Sites } from './sites.ts';

/** A file of a chain and where its things lie. */
export interface SoundFile {
  readonly file: MemoryFile;
  readonly sites: Sites | null;
}

export interface SoundChain {
  readonly name: string;
  readonly topFormat: 'qcow2' | 'raw';
  /** The top first. */
  readonly files: readonly [SoundFile, ...SoundFile[]];
  readonly folder: MemoryFolder;
}

/** Written to each image: plain, compressed, zero. */
const PLAIN = [
  'write -q -P 7 0 20k',
  'write -q -P 8 100k 9k',
  'write -q -z 64k 16k',
  'write -q -P 9 900k 64k',
];
const PACKED = [
  'write -q -c -P 1 0 64k',
  'write -q -c -P 2 128k 64k',
  'write -q -c -P 3 192k 64k',
  ...PLAIN.slice(1),
];

interface Recipe {
  readonly name: string;
  readonly options: string;
  readonly writes: readonly string[];
  readonly size?: string;
}

const ALONE: readonly Recipe[] = [
  { name: 'v2', options: 'compat=0.10', writes: PACKED },
  { name: 'v2-small', options: 'compat=0.10,cluster_size=4096', writes: PLAIN },
  { name: 'plain', options: 'cluster_size=65536', writes: PLAIN },
  { name: 'smallest-clusters', options: 'cluster_size=512', writes: PLAIN },
  { name: 'small-clusters', options: 'cluster_size=4096', writes: PLAIN },
  { name: 'zlib', options: 'cluster_size=4096', writes: PACKED },
  { name: 'zlib-large', options: 'cluster_size=65536', writes: PACKED },
  { name: 'zstd', options: 'cluster_size=4096,compression_type=zstd', writes: PACKED },
  { name: 'zstd-large', options: 'cluster_size=65536,compression_type=zstd', writes: PACKED },
  { name: 'extended', options: 'cluster_size=16384,extended_l2=on', writes: PLAIN },
  {
    name: 'extended-zstd',
    options: 'cluster_size=65536,extended_l2=on,compression_type=zstd',
    writes: PACKED,
  },
  { name: 'largest-clusters', options: 'cluster_size=2097152', writes: ['write -q -P 7 0 20k'], size: '5M' },
  { name: 'preallocated', options: 'cluster_size=4096,preallocation=metadata', writes: PLAIN },
  { name: 'lazy', options: 'cluster_size=4096,lazy_refcounts=on', writes: PLAIN },
  { name: 'empty', options: 'cluster_size=4096', writes: [], size: '0' },
  { name: 'odd-size', options: 'cluster_size=4096', writes: PLAIN, size: '1049088' },
];

const DEEP_LAYERS = 70;

/** Builds all of it; the same bytes each time for one version of qemu-img. */
export async function buildCorpus(): Promise<SoundChain[]> {
  return withTempDir(async dir => {
    const chains: SoundChain[] = [];
    for (const recipe of ALONE) chains.push(await alone(dir, recipe));
    chains.push(await withSnapshots(dir));
    chains.push(await raw(dir));
    chains.push(await overlay(dir, 'over-qcow2', 'qcow2', null));
    chains.push(await overlay(dir, 'over-raw', 'raw', null));
    const json = { driver: 'qcow2', file: { driver: 'file', filename: `${ROOT}/base` } };
    chains.push(await overlay(dir, 'over-json', 'qcow2', `json:${JSON.stringify(json)}`));
    chains.push(await stack(dir));
    chains.push(await ownWriter(dir, 'own', 4096, null));
    chains.push(await ownWriter(dir, 'own-large', 65_536, null));
    chains.push(await ownWriter(dir, 'own-overlay', 4096, { name: 'base', format: 'qcow2' }));
    chains.push(await deep(dir));
    return chains;
  });
}

let inodes = 0;

async function load(path: string, name: string): Promise<SoundFile> {
  const content = await readFile(path);
  inodes += 1;
  return { file: new MemoryFile(`${ROOT}/${name}`, content, inodes), sites: findSites(content) };
}

function chainOf(
  name: string,
  files: readonly [SoundFile, ...SoundFile[]],
  topFormat: 'qcow2' | 'raw' = 'qcow2',
): SoundChain {
  return { name, topFormat, files, folder: new MemoryFolder(files.map(({ file }) => file)) };
}

async function create(path: string, { options, writes, size = '1M' }: Omit<Recipe, 'name'>): Promise<void> {
  await qemuImg('create', '-q', '-f', 'qcow2', '-o', options, path, size);
  await qemuIo(path, writes, ['-f', 'qcow2']);
}

async function alone(dir: string, recipe: Recipe): Promise<SoundChain> {
  const path = join(dir, recipe.name);
  await create(path, recipe);
  return chainOf(recipe.name, [await load(path, 'top')]);
}

async function withSnapshots(dir: string): Promise<SoundChain> {
  const path = join(dir, 'snapshots');
  await create(path, { options: 'cluster_size=4096', writes: PLAIN });
  await qemuImg('snapshot', '-c', 'one', path);
  await qemuIo(path, ['write -q -P 5 0 64k'], ['-f', 'qcow2']);
  await qemuImg('snapshot', '-c', 'two', path);
  await qemuImg('bitmap', '--add', path, 'marks');
  return chainOf('snapshots', [await load(path, 'top')]);
}

async function raw(dir: string): Promise<SoundChain> {
  const path = join(dir, 'raw');
  await qemuImg('create', '-q', '-f', 'raw', path, '70000');
  await qemuIo(path, ['write -q -P 5 0 64k'], ['-f', 'raw']);
  return chainOf('raw', [await load(path, 'top')], 'raw');
}

async function overlay(
  dir: string,
  name: string,
  format: 'qcow2' | 'raw',
  backing: string | null,
): Promise<SoundChain> {
  const [base, top] = [join(dir, `${name}-base`), join(dir, name)];
  if (format === 'raw') await qemuImg('create', '-q', '-f', 'raw', base, '1M');
  else await create(base, { options: 'cluster_size=65536', writes: PACKED });
  await create(top, {
    options: 'cluster_size=4096',
    writes: ['write -q -P 4 4k 8k', 'write -q -c -P 6 32k 4k'],
  });
  const names = ['-u', '-f', 'qcow2', '-F', format, '-b', backing ?? 'base', top];
  await qemuImg('rebase', ...names);
  return chainOf(name, [await load(top, 'top'), await load(base, 'base')]);
}

/** Three layers of different sizes and shapes, and a raw one beneath. */
async function stack(dir: string): Promise<SoundChain> {
  const made: SoundFile[] = [];
  const layers = [
    {
      name: 'top',
      options: 'cluster_size=65536,extended_l2=on',
      size: '2M',
      beneath: 'middle',
      format: 'qcow2',
    },
    { name: 'middle', options: 'cluster_size=512', size: '300k', beneath: 'lower', format: 'qcow2' },
    {
      name: 'lower',
      options: 'cluster_size=4096,compression_type=zstd',
      size: '3M',
      beneath: 'bottom',
      format: 'raw',
    },
  ];
  for (const { name, options, size, beneath, format } of layers) {
    const path = join(dir, `stack-${name}`);
    await create(path, { options, size, writes: ['write -q -P 4 8k 16k', 'write -q -z 64k 64k'] });
    await qemuImg('rebase', '-u', '-f', 'qcow2', '-F', format, '-b', beneath, path);
    made.push(await load(path, name));
  }
  const bottom = join(dir, 'stack-bottom');
  await qemuImg('create', '-q', '-f', 'raw', bottom, '500000');
  made.push(await load(bottom, 'bottom'));
  return chainOf('stack', made as [SoundFile, ...SoundFile[]]);
}

/** As a replica's layer is written. */
async function ownWriter(
  dir: string,
  name: string,
  clusterSizeBytes: number,
  backing: BackingFile | null,
): Promise<SoundChain> {
  const builder = new ExtentMapBuilder({ virtualSizeBytes: 2 ** 20, clusterSizeBytes });
  for (const kind of ['data', 'hole', 'zero', 'data'] as const) builder.add(kind, 2 ** 16);
  builder.add('hole', 2 ** 20 - 4 * 2 ** 16);
  const path = join(dir, name);
  const file = await open(path, 'wx+');
  const layout = computeLayout(builder.build(), backing);
  await writeQcow2(file, layout, async target => void target.fill(3), 'restore.metadata');
  await file.close();
  const top = await load(path, 'top');
  if (backing === null) return chainOf(name, [top]);
  const base = join(dir, `${name}-base`);
  await create(base, { options: 'cluster_size=4096', writes: PLAIN });
  return chainOf(name, [top, await load(base, 'base')]);
}

/** More layers than are read; a case shortens it by breaking a link. */
async function deep(dir: string): Promise<SoundChain> {
  const path = join(dir, 'deep');
  await create(path, { options: 'cluster_size=512', writes: ['write -q -P 4 0 512'], size: '8k' });
  await qemuImg('rebase', '-u', '-f', 'qcow2', '-F', 'qcow2', '-b', 'l00', path);
  const template = await load(path, 'top');
  const nameAt = template.sites?.nameAt ?? 0;
  const files: SoundFile[] = [template];
  for (let index = 0; index < DEEP_LAYERS; index += 1) {
    const content = Buffer.from(template.file.bytes.subarray(0, template.file.soundSizeBytes));
    content.write(`l${String(index + 1).padStart(2, '0')}`, nameAt, 'latin1');
    inodes += 1;
    const name = `l${String(index).padStart(2, '0')}`;
    files.push({ file: new MemoryFile(`${ROOT}/${name}`, content, inodes), sites: findSites(content) });
  }
  return chainOf('deep', files as [SoundFile, ...SoundFile[]]);
}
