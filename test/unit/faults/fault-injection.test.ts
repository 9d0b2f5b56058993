import { spawnSync } from 'node:child_process';
import { mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { armFaults, createInjector, type Fault, readFired } from '../../../src/lib/fault-injection.ts';
import { effect, effectSync, setFaultInjector } from '../../../src/lib/fault-points.ts';

const CHILD = fileURLToPath(new URL('./fault-child.ts', import.meta.url));

let directory: string;
let plan: string;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'offsite-faults-'));
  plan = join(directory, 'plan.json');
});

afterEach(() => {
  setFaultInjector(null);
  rmSync(directory, { recursive: true });
});

function write(...faults: Fault[]): void {
  writeFileSync(`${plan}.new`, JSON.stringify({ faults }));
  renameSync(`${plan}.new`, plan);
}

const seal = (more: Partial<Fault>): Fault => ({
  id: 'seal',
  point: 'replica.seal.rename',
  when: 'before',
  kind: 'crash',
  ...more,
});

function runChild(environment: Record<string, string>) {
  const { stdout, signal } = spawnSync(process.execPath, [CHILD], {
    encoding: 'utf8',
    env: { PATH: process.env.PATH, ...environment },
  });
  return { lines: stdout.trim().split('\n'), signal };
}

describe('fault points of a process', () => {
  it('do nothing unless the environment asks for them twice', () => {
    write(seal({}));
    const whole = ['armed false', 'renamed 1', 'renamed 2', 'renamed 3', 'acknowledged'];
    for (const environment of [
      {},
      { OFFSITE_FAULTS: plan },
      { OFFSITE_FAULTS_ARMED: 'test' },
      { OFFSITE_FAULTS: plan, OFFSITE_FAULTS_ARMED: '1' },
      { OFFSITE_FAULTS: '', OFFSITE_FAULTS_ARMED: 'test' },
    ]) {
      expect(runChild(environment)).toEqual({ lines: whole, signal: null });
    }
    expect(readFired(plan)).toEqual([]);
  });

  it('kill it before or after the effect, at the hit that the plan names, and once only', () => {
    const armed = { OFFSITE_FAULTS: plan, OFFSITE_FAULTS_ARMED: 'test' };
    write(seal({ hit: 2 }), seal({ id: 'ack', point: 'transfer.send.ack', when: 'after' }));
    expect(runChild(armed)).toEqual({ lines: ['armed true', 'renamed 1'], signal: 'SIGKILL' });
    expect(readFired(plan)).toMatchObject([{ id: 'seal', kind: 'crash', when: 'before', site: 'a', hit: 2 }]);
    expect(runChild(armed)).toEqual({
      lines: ['armed true', 'renamed 1', 'renamed 2', 'renamed 3', 'acknowledged'],
      signal: 'SIGKILL',
    });
    expect(readFired(plan).map(({ id }) => id)).toEqual(['seal', 'ack']);
    expect(runChild(armed).signal).toBe(null);
  });
});

describe('an injector', () => {
  const done: string[] = [];
  const step = () => effect('replica.seal.rename', async () => done.push('done'));

  function arm(...faults: Fault[]): void {
    done.length = 0;
    write(...faults);
    setFaultInjector(createInjector(plan, 'b'));
  }

  it('fails before the effect, or drops its reply, as often as the plan says', async () => {
    arm(seal({ kind: 'error', times: 2 }));
    await expect(step()).rejects.toMatchObject({ code: 'FaultInjected' });
    await expect(step()).rejects.toMatchObject({ code: 'FaultInjected' });
    expect(done).toEqual([]);
    await step();
    expect(done).toEqual(['done']);
    arm(seal({ id: 'other', kind: 'dropReply', when: 'after' }));
    await expect(step()).rejects.toMatchObject({ code: 'FaultInjected' });
    expect(done).toEqual(['done']);
  });

  it('leaves the processes of another site alone', async () => {
    arm(seal({ kind: 'error', site: 'a' }));
    await step();
    expect(readFired(plan)).toEqual([]);
  });

  it('delays, and holds until a file is gone or the time is over', async () => {
    const holdFile = join(directory, 'hold');
    writeFileSync(holdFile, '');
    arm(seal({ kind: 'hold', holdFile }), seal({ id: 'd', kind: 'delay', when: 'after', delayMs: 1 }));
    const held = step();
    await new Promise(resolve => setTimeout(resolve, 50));
    expect(done).toEqual([]);
    rmSync(holdFile);
    await held;
    expect(readFired(plan).map(({ kind }) => kind)).toEqual(['hold', 'delay']);
    writeFileSync(holdFile, '');
    arm(seal({ id: 'short', kind: 'hold', holdFile, delayMs: 20 }));
    await step();
    expect(done).toEqual(['done']);
  });

  it('holds up a synchronous effect, and fails it', () => {
    arm({ id: 's', point: 'transfer.send.ack', when: 'before', kind: 'delay', delayMs: 1 });
    expect(effectSync('transfer.send.ack', () => 1)).toBe(1);
    arm({ id: 't', point: 'transfer.send.ack', when: 'after', kind: 'dropReply' });
    expect(() => effectSync('transfer.send.ack', () => done.push('sent'))).toThrow(/after transfer.send.ack/);
    expect(done).toEqual(['sent']);
  });

  it('reads a plan that was replaced, and counts hits anew', async () => {
    arm(seal({ kind: 'error', hit: 2 }));
    await step();
    write(seal({ id: 'next', kind: 'error', hit: 2 }));
    await step();
    await expect(step()).rejects.toThrow();
    expect(readFired(plan)).toMatchObject([{ id: 'next', hit: 2 }]);
  });

  it.each([
    seal({ kind: 'error', when: 'after' }),
    seal({ kind: 'dropReply', when: 'before' }),
    seal({ point: 'no.such.point' as never }),
    seal({ kind: 'sleep' as never }),
    seal({ when: 'during' as never }),
  ])('takes no plan that means nothing: $kind $when $point', fault => {
    write(fault);
    const environment = { OFFSITE_FAULTS: plan, OFFSITE_FAULTS_ARMED: 'test' };
    expect(() => armFaults(environment, 'b')).toThrow(/no such fault/);
  });
});
