/** Names of backing files that an attacker may write into an image. */
import type { Random } from '../random.ts';
import { ROOT } from './memory-file.ts';

const PLACES = [
  'top',
  'base',
  'middle',
  'lower',
  'bottom',
  'l01',
  'l63',
  './base',
  '././top',
  'folder',
  'folder/base',
  'nothing',
  `${ROOT}/base`,
  `${ROOT}/../images/base`,
  `${ROOT}/../etc/passwd`,
  '../outside',
  '../../../../etc/shadow',
  '/etc/passwd',
  '/dev/zero',
  '/dev/stdin',
  '/proc/self/environ',
  '/proc/self/fd/0',
  'link-out',
  'link-folder/secret',
  'link-loop',
  'fifo',
  'base\n',
  ' base',
  'base:1',
  'file:base',
  `file:${ROOT}/base`,
  `file://${ROOT}/base`,
  'file:/etc/passwd',
  'fat:/etc',
  'fat:rw:/etc',
  'nbd:localhost:10809',
  'nbd+unix:///x?socket=/tmp/s',
  'http://127.0.0.1/x',
  'ssh://root@127.0.0.1/x',
  'blkdebug::base',
  'host_device:/dev/sda',
  'json:',
  'json:{}',
  'json:null',
  'json:[]',
  `${'a/'.repeat(500)}b`,
  `${'../'.repeat(300)}etc/passwd`,
  '',
];

const KEYS = [
  'driver',
  'file',
  'backing',
  'filename',
  'file.filename',
  'file.driver',
  'backing.file.filename',
  'backing.driver',
  'node-name',
  'read-only',
  'locking',
  'aio',
  'cache',
  'data-file',
  'encrypt.format',
  'encrypt.key-secret',
  'lazy-refcounts',
  '__proto__',
  'constructor',
  'file.__proto__',
  'file.file.filename',
  'server.host',
  'offset',
  '',
  '.',
];

const SCALARS: readonly unknown[] = [
  'qcow2',
  'raw',
  'file',
  'host_device',
  'nbd',
  'luks',
  `${ROOT}/base`,
  `${ROOT}/top`,
  '/etc/passwd',
  'base',
  '',
  'a\0b',
  null,
  true,
  0,
  -1,
  1e308,
  [],
  ['x'],
];

/** A name as bytes: a place, JSON of QEMU's shape, or noise. */
export function backingName(random: Random): Buffer {
  const kind = random.below(10);
  if (kind < 4) return Buffer.from(random.pick(PLACES));
  if (kind < 8) return Buffer.from(`json:${JSON.stringify(node(random, 0))}`);
  if (kind === 8) return deeplyNested(random);
  return random.bytes(random.below(1100));
}

function node(random: Random, depth: number): unknown {
  if (depth > 6) return random.pick(SCALARS);
  const object: Record<string, unknown> = {};
  if (!random.oneIn(6)) object.driver = random.pick(['qcow2', 'raw', 'qcow2', 'file', 'nbd']);
  if (!random.oneIn(6)) object.file = fileNode(random, depth);
  if (random.oneIn(3)) object.backing = random.oneIn(4) ? null : node(random, depth + 1);
  while (random.oneIn(3)) {
    // As JSON.parse makes it: `__proto__` is a key like any other.
    const value = random.oneIn(3) ? node(random, depth + 2) : random.pick(SCALARS);
    Object.defineProperty(object, random.pick(KEYS), { value, enumerable: true, configurable: true });
  }
  return object;
}

function fileNode(random: Random, depth: number): unknown {
  if (random.oneIn(8)) return node(random, depth + 1);
  return {
    ...(!random.oneIn(4) && { driver: random.oneIn(6) ? random.pick(SCALARS) : 'file' }),
    filename: random.oneIn(3)
      ? random.pick(PLACES)
      : random.pick([`${ROOT}/base`, `${ROOT}/lower`, `${ROOT}/top`]),
    ...(random.oneIn(6) && { [random.pick(KEYS)]: random.pick(SCALARS) }),
  };
}

function deeplyNested(random: Random): Buffer {
  const [open, close] = random.pick([
    ['[', ']'],
    ['{"backing":', '}'],
    ['{"file":', '}'],
    ['{"driver":"qcow2","backing":', '}'],
  ] as const);
  const count = 1 + random.below(Math.floor(1000 / open.length));
  const middle = random.pick(['null', '1', '"x"', '']);
  return Buffer.from(
    `json:${open.repeat(count)}${middle}${close.repeat(random.oneIn(4) ? count - 1 : count)}`,
  );
}
