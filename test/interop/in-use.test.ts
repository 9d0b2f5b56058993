import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { assertNotInUse, hasWriter } from '../../src/images/in-use.ts';
import { qemuImg, withTempDir } from '../support/qemu.ts';

describe('an image that QEMU has open', () => {
  it('is in use while it is open for writing, not while it is read', () =>
    withTempDir(async dir => {
      const path = join(dir, 'disk.qcow2');
      await qemuImg('create', '-f', 'qcow2', path, '4M');
      const { dev, ino } = await stat(path, { bigint: true });
      const file = { path, identity: { device: String(dev), inode: String(ino) } };

      const reader = await openWithQemu(path, ['-r']);
      await expect(assertNotInUse(file)).resolves.toBeUndefined();
      await ended(reader);

      const writer = await openWithQemu(path, []);
      await expect(assertNotInUse(file)).rejects.toMatchObject({ code: 'ImageInUse' });
      await ended(writer);
      await expect(assertNotInUse(file)).resolves.toBeUndefined();
    }));
});

describe('hasWriter', () => {
  const identity = { device: String(0xfe00), inode: '77' };

  it.each([
    ['3: OFDLCK ADVISORY  READ -1 fe:00:77 100 101', true],
    ['3: OFDLCK ADVISORY  READ -1 fe:00:77 101 103', true],
    ['3: POSIX  ADVISORY  WRITE 14827 fe:00:77 0 EOF', true],
    ['3: OFDLCK ADVISORY  READ -1 fe:00:77 100 100', false],
    ['3: OFDLCK ADVISORY  READ -1 fe:00:77 201 203', false],
    ['3: OFDLCK ADVISORY  READ -1 fe:00:78 100 101', false],
    ['3: OFDLCK ADVISORY  READ -1 fe:01:77 100 101', false],
    ['3: -> OFDLCK ADVISORY  READ -1 fe:00:77 100 101', false],
    ['nonsense', false],
    ['', false],
  ])('reads %j', (line, expected) => {
    expect(hasWriter(`1: FLOCK  ADVISORY  WRITE 1 fe:00:1 0 EOF\n${line}\n`, identity)).toBe(expected);
  });
});

/** Gives a qemu-io that has the image open: its prompt has come. */
async function openWithQemu(path: string, options: readonly string[]): Promise<ChildProcess> {
  const child = spawn('qemu-io', [...options, '-f', 'qcow2', path], { stdio: ['pipe', 'pipe', 'inherit'] });
  await once(child.stdout, 'data');
  return child;
}

async function ended(child: ChildProcess): Promise<void> {
  const exit = once(child, 'exit');
  child.stdin?.end();
  await exit;
}
