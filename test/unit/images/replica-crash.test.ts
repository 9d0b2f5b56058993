import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { qemuCheck } from '../../support/qemu.ts';
import { filesOf, receiveFixedLayer, receiveFixedStandAlone, withMemoryDir } from './replica-fixtures.ts';

const CHILD = join(import.meta.dirname, 'replica-crash-child.ts');

async function dieAt(kind: string, directory: string, step: number): Promise<void> {
  const child = spawn(process.execPath, [CHILD, kind, directory, String(step)], { stdio: 'inherit' });
  const [, signal] = (await once(child, 'exit')) as [number | null, NodeJS.Signals | null];
  expect(signal, `the kill at step ${step}`).toBe('SIGKILL');
}

it.each([
  { kind: 'overlay', receive: receiveFixedLayer, fileCount: 2 },
  { kind: 'standAlone', receive: receiveFixedStandAlone, fileCount: 4 },
])('$kind: a kill after any step, and a second run, give the same files as no kill', async layer => {
  const { kind, receive, fileCount } = layer;
  await withMemoryDir(async parent => {
    const steps: string[] = [];
    const whole = join(parent, 'whole');
    const finalName = await receive(whole, step => steps.push(step));
    const expected = await filesOf(whole);
    expect([...expected.keys()]).toEqual(expect.arrayContaining([finalName, `${finalName}.digests`]));
    expect(expected.size).toBe(fileCount);
    expect(steps.length).toBeGreaterThan(15);
    const check = await qemuCheck(join(whole, finalName));
    expect(check).toEqual({ corruptions: 0, leaks: 0, checkErrors: 0 });

    const crash = async (step: number) => {
      const directory = join(parent, `killed-at-${step}`);
      await dieAt(kind, directory, step);
      await receive(directory, () => undefined);
      expect(await filesOf(directory), `after a kill at step ${step}, ${steps[step]}`).toEqual(expected);
      expect((await stat(join(directory, finalName))).mode & 0o777).toBe(0o444);
    };
    const all = steps.keys();
    // Two at a time, as there are cores.
    await Promise.all(
      [1, 2].map(async () => {
        for (const step of all) await crash(step);
      }),
    );
  });
});
