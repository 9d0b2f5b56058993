/** Random stacks of layers, as fast-check arbitraries, and the way to make them with QEMU's tools. */
import { randomFillSync } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import fc from 'fast-check';
import { qemuImg, qemuIo } from '../../support/qemu.ts';

export interface WriteOp {
  readonly op: 'write' | 'zero' | 'unmap' | 'discard' | 'packed';
  /** Where, as a fraction of the disk. */
  readonly at: number;
  /** How much, as a fraction of what follows; packed writes take one cluster. */
  readonly span: number;
  readonly pattern: number;
}

export type NameForm = 'relative' | 'absolute' | 'json' | 'jsonNested' | 'jsonNoBacking';

export interface LayerPlan {
  readonly clusterBits: number;
  readonly sizeSectors: number;
  /** Resized to this before the second half of the operations; null for no resize. */
  readonly resizeSectors: number | null;
  readonly flavour: 'v2' | 'v3' | 'zstd' | 'extended';
  readonly nameForm: NameForm;
  readonly ops: readonly WriteOp[];
}

export interface StackPlan {
  /** Bytes of a raw bottom layer, any number; null for a qcow2 bottom. */
  readonly rawBottomBytes: number | null;
  /** The bottom first. */
  readonly layers: readonly LayerPlan[];
}

const MAX_SECTORS = 12 * 1024;
const sectors = fc.integer({ min: 1, max: MAX_SECTORS });
const fraction = fc.double({ min: 0, max: 1, noNaN: true, maxExcluded: true });

const writeOp: fc.Arbitrary<WriteOp> = fc.record({
  op: fc.constantFrom('write', 'write', 'zero', 'unmap', 'discard', 'packed'),
  at: fraction,
  span: fraction.map(value => value ** 3),
  pattern: fc.integer({ min: 1, max: 255 }),
});

const layerPlan: fc.Arbitrary<LayerPlan> = fc.record({
  clusterBits: fc.integer({ min: 9, max: 21 }),
  sizeSectors: sectors,
  resizeSectors: fc.option(sectors, { freq: 2 }),
  flavour: fc.constantFrom('v2', 'v3', 'v3', 'zstd', 'extended', 'extended'),
  nameForm: fc.constantFrom('relative', 'relative', 'absolute', 'json', 'jsonNested', 'jsonNoBacking'),
  ops: fc.array(writeOp, { maxLength: 8 }),
});

export const stackPlan: fc.Arbitrary<StackPlan> = fc.record({
  rawBottomBytes: fc.option(fc.integer({ min: 1, max: MAX_SECTORS * 512 }), { freq: 3 }),
  layers: fc.array(layerPlan, { minLength: 1, maxLength: 4 }),
});

interface Below {
  readonly path: string;
  readonly format: 'qcow2' | 'raw';
  readonly below: Below | null;
}

/** Makes the stack. @returns the path of its top */
export async function makeStack(dir: string, plan: StackPlan): Promise<string> {
  let below: Below | null = null;
  if (plan.rawBottomBytes !== null) {
    below = { path: join(dir, 'bottom.raw'), format: 'raw', below: null };
    await writeFile(below.path, randomFillSync(Buffer.alloc(plan.rawBottomBytes)));
  }
  for (const [index, layer] of plan.layers.entries()) {
    const path = join(dir, `layer${index}.qcow2`);
    await makeLayer(path, layer, below);
    below = { path, format: 'qcow2', below };
  }
  return below?.path ?? '';
}

async function makeLayer(path: string, plan: LayerPlan, below: Below | null): Promise<void> {
  const clusterBits = plan.flavour === 'extended' ? Math.max(14, plan.clusterBits) : plan.clusterBits;
  const options = [`cluster_size=${2 ** clusterBits}`, `compat=${plan.flavour === 'v2' ? '0.10' : '1.1'}`];
  if (plan.flavour === 'zstd') options.push('compression_type=zstd');
  if (plan.flavour === 'extended') options.push('extended_l2=on');
  const backing = below === null ? [] : ['-b', backingName(plan.nameForm, below), '-F', below.format];
  await qemuImg(
    'create',
    '-q',
    '-f',
    'qcow2',
    '-o',
    options.join(','),
    ...backing,
    path,
    `${plan.sizeSectors * 512}`,
  );
  const half = plan.resizeSectors === null ? plan.ops.length : Math.floor(plan.ops.length / 2);
  await runOps(path, plan.ops.slice(0, half), plan.sizeSectors, clusterBits);
  if (plan.resizeSectors === null) return;
  const resize = qemuImg('resize', '-q', '-f', 'qcow2', '--shrink', path, `${plan.resizeSectors * 512}`);
  // Version 2 has no way to hide what a longer backing file holds, so QEMU refuses to grow some of these.
  const isResized = await resize.then(
    () => true,
    error => {
      if (plan.flavour !== 'v2') throw error;
      return false;
    },
  );
  if (isResized) await runOps(path, plan.ops.slice(half), plan.resizeSectors, clusterBits);
}

function backingName(form: NameForm, below: Below): string {
  if (form === 'absolute') return below.path;
  if (form === 'relative') return below.path.slice(below.path.lastIndexOf('/') + 1);
  return `json:${JSON.stringify(jsonNode(form, below))}`;
}

function jsonNode(form: NameForm, below: Below): object {
  const node = { driver: below.format, file: { driver: 'file', filename: below.path } };
  if (form === 'jsonNoBacking' && below.format === 'qcow2') return { ...node, backing: null };
  if (form === 'jsonNested' && below.below !== null)
    return { ...node, backing: jsonNode('json', below.below) };
  return node;
}

async function runOps(
  path: string,
  ops: readonly WriteOp[],
  sizeSectors: number,
  clusterBits: number,
): Promise<void> {
  const packed: string[] = [];
  const commands: string[] = [];
  for (const { op, at, span, pattern } of ops) {
    const start = Math.floor(at * sizeSectors) * 512;
    const room = sizeSectors * 512 - start;
    const length = Math.max(512, Math.floor((span * room) / 512) * 512);
    if (op === 'packed') packed.push(packedWrite(start, sizeSectors * 512, clusterBits, pattern));
    else commands.push(commandOf(op, start, length, pattern));
  }
  // QEMU packs only into clusters that are not there yet, and refuses the others; that is all right here.
  await qemuIo(path, packed, ['-f', 'qcow2']).catch(() => undefined);
  await qemuIo(path, commands, ['-f', 'qcow2', '-d', 'unmap']);
}

function commandOf(
  op: 'write' | 'zero' | 'unmap' | 'discard',
  start: number,
  length: number,
  pattern: number,
): string {
  if (op === 'write') return `write -q -P ${pattern} ${start} ${length}`;
  if (op === 'zero') return `write -q -z ${start} ${length}`;
  if (op === 'unmap') return `write -q -z -u ${start} ${length}`;
  return `discard -q ${start} ${length}`;
}

/** Compressed writes go by whole clusters. */
function packedWrite(start: number, sizeBytes: number, clusterBits: number, pattern: number): string {
  const cluster = 2 ** clusterBits;
  const first = Math.floor(start / cluster) * cluster;
  const length = Math.min(cluster, sizeBytes - first);
  return `write -q -c -P ${pattern} ${first} ${length}`;
}
