/** The recorder's pure parts: which disks, which commands, when the guard steps in, one clock, checkpoints. */
import { describe, expect, it } from 'vitest';
import { Checkpoints } from '../../../src/capture/recorder/checkpoints.ts';
import { firstGuardState, heard, look } from '../../../src/capture/recorder/guard-rules.ts';
import { findGuestDisks } from '../../../src/capture/recorder/guest-disks.ts';
import { HostClock } from '../../../src/capture/recorder/host-clock.ts';
import { JournaledDisk } from '../../../src/capture/recorder/journaled-disk.ts';
import type { RecordedWrite } from '../../../src/capture/recorder/ports.ts';
import { planTakeOver, switchCommands } from '../../../src/capture/recorder/take-over.ts';
import { endingOf } from '../../../src/capture/recorder/watch-epoch.ts';

const block = (id: string, inserted: object = {}, more: object = {}) => ({
  device: '',
  qdev: `/machine/peripheral/${id}/virtio-backend`,
  removable: false,
  inserted: {
    'node-name': `node-${id}`,
    drv: 'qcow2',
    ro: false,
    image: { filename: `/images/${id}.qcow2`, format: 'qcow2', 'virtual-size': 1024 },
    ...inserted,
  },
  ...more,
});

describe('the disks of a machine', () => {
  it('are all that can be written and not taken out, by the names of their devices', () => {
    const blocks = [
      block('vda'),
      block('cd', {}, { removable: true }),
      block('vdb', { ro: true }),
      { device: 'fd' },
    ];
    expect(findGuestDisks(blocks, [])).toEqual([
      { disk: 'vda', device: 'vda', node: 'node-vda', path: '/images/vda.qcow2', virtualSizeBytes: 1024 },
    ]);
  });

  it('can be named by device or node', () => {
    const mapping = [
      { disk: 'root', name: 'vda' },
      { disk: 'data', name: 'node-vdb' },
    ];
    expect(
      findGuestDisks([block('vda'), block('vdb')], mapping).map(({ disk, node }) => [disk, node]),
    ).toEqual([
      ['root', 'node-vda'],
      ['data', 'node-vdb'],
    ]);
  });

  it('have the path that a json: name tells', () => {
    const filename = 'json:{"driver":"qcow2","file":{"driver":"file","filename":"/images/x.qcow2"}}';
    const image = { filename, format: 'qcow2', 'virtual-size': 1024 };
    expect(findGuestDisks([block('vda', { image })], [])[0]?.path).toBe('/images/x.qcow2');
  });

  it.each([
    ['raw', { drv: 'raw' }, {}],
    ['read-only', { ro: true }, {}],
    ['removable', {}, { removable: true }],
    ['without an absolute path', { image: { filename: 'x.qcow2', format: 'qcow2', 'virtual-size': 1 } }, {}],
    [
      'of another protocol',
      { image: { filename: 'json:{"file":{"driver":"nbd"}}', format: 'qcow2', 'virtual-size': 1 } },
      {},
    ],
  ])('that are %s are refused', (_, inserted, more) => {
    const find = () => findGuestDisks([block('vda', inserted, more)], [{ disk: 'vda', name: 'vda' }]);
    expect(find).toThrow(expect.objectContaining({ code: 'DiskUnsupported' }));
  });

  it('that are not there are told with those that are', () => {
    const find = () => findGuestDisks([block('vda')], [{ disk: 'vdb', name: 'vdb' }]);
    expect(find).toThrow(/no disk vdb: it has vda/);
  });
});

const plan = planTakeOver(
  '0b5c9d1e-6a3f-4f1e-9d6c-2f8f6f0a7c11',
  findGuestDisks([block('vda'), block('vdb')], []),
  '/nbd.sock',
  ({ disk }) => `/images/${disk}.new`,
);

describe('the switch', () => {
  it('stops the guest first and lets it go on last, with names that QEMU takes', () => {
    expect(switchCommands(plan, true).map(({ command }) => command)).toEqual([
      'stop',
      'transaction',
      'blockdev-mirror',
      'blockdev-mirror',
      'cont',
    ]);
    const names = plan.disks.flatMap(disk => Object.values(disk.names));
    expect(new Set(names).size).toBe(names.length);
    for (const name of names) expect(name).toMatch(/^offsite-[a-z0-9-]{1,23}$/);
  });

  it('leaves a paused guest paused', () => {
    const commands = switchCommands(plan, false).map(({ command }) => command);
    expect(commands).not.toContain('cont');
    expect(commands).not.toContain('stop');
  });

  it('is undone by events of its own jobs and disks only', () => {
    const job = plan.disks[1]?.names.job;
    expect(
      endingOf({ event: 'BLOCK_JOB_COMPLETED', data: { device: job, error: 'Input/output error' } }, plan),
    ).toBe('the mirror of disk vdb ended (BLOCK_JOB_COMPLETED): Input/output error');
    expect(endingOf({ event: 'BLOCK_JOB_ERROR', data: { device: 'other' } }, plan)).toBeNull();
    expect(endingOf({ event: 'DEVICE_DELETED', data: { device: 'vda' } }, plan)).toBe(
      'disk vda was taken out',
    );
    expect(endingOf({ event: 'RESUME', data: {} }, plan)).toBeNull();
  });
});

describe('the guard', () => {
  const intent = { type: 'intent', deadlineMs: 2000, resume: true, thaw: false } as const;
  /** Looks each 50 ms, as the guard does. */
  function until(state: ReturnType<typeof firstGuardState>, fromMs: number, endMs: number) {
    let now = state;
    for (let atMs = fromMs; atMs <= endMs; atMs += 50) {
      const { state: next, verdict } = look(now, atMs);
      if (verdict !== null) return { atMs, verdict };
      now = next;
    }
    return null;
  }

  it('lets a recorder be that is heard', () => {
    const state = heard(firstGuardState(0), { type: 'alive', unansweredMs: 100 }, 4000);
    expect(until({ ...state, lookedAtMs: 4000 }, 4000, 8500)).toBeNull();
  });

  it('ends one that is silent for 5 s, or holds a guest up beyond its deadline', () => {
    expect(until(firstGuardState(0), 0, 10_000)).toEqual({
      atMs: 5050,
      verdict: expect.stringContaining('silent'),
    });
    const held = heard(firstGuardState(0), intent, 0);
    expect(until(held, 0, 10_000)).toEqual({ atMs: 2050, verdict: expect.stringContaining('deadline') });
    expect(until(heard(held, { type: 'over' }, 100), 100, 4000)).toBeNull();
  });

  it('ends one with a write that is unanswered for 5 s', () => {
    const state = heard(firstGuardState(0), { type: 'alive', unansweredMs: 4900 }, 0);
    expect(until(state, 0, 10_000)?.verdict).toContain('unanswered');
  });

  it('judges nobody by a time in which it was held up itself', () => {
    const { state, verdict } = look(heard(firstGuardState(0), intent, 0), 60_000);
    expect(verdict).toBeNull();
    expect(look(state, 60_050).verdict).toBeNull();
  });
});

describe('one clock', () => {
  it('never falls, whatever the system does', () => {
    const times = [5, 3, 7];
    const clock = new HostClock({ sequence: 0, timeUs: 4000 }, () => times.shift() ?? 0);
    expect([clock.next(), clock.next(), clock.next()]).toEqual([
      { sequence: 1, timeUs: 5000 },
      { sequence: 2, timeUs: 5000 },
      { sequence: 3, timeUs: 7000 },
    ]);
  });

  it('gives all disks one order; a checkpoint has one sequence everywhere, and none comes without news', async () => {
    const clock = new HostClock({ sequence: 0, timeUs: 0 });
    const records: (RecordedWrite & { on: string })[] = [];
    const failures: unknown[] = [];
    const disks = ['vda', 'vdb'].map(
      name =>
        new JournaledDisk({
          name,
          sizeBytes: 8 * 1024 * 1024,
          clock,
          journal: {
            append: async record => void records.push({ ...record, on: name }),
            sync: async () => {},
            close: async () => {},
          },
          state: { read: async () => {}, close: async () => {} },
          onFailure: error => failures.push(error),
        }),
    );
    const set: number[] = [];
    const checkpoints = new Checkpoints({
      clock,
      disks,
      onCheckpoint: ({ sequence }) => set.push(sequence),
      onFailure: error => failures.push(error),
    });
    await checkpoints.setIfNews();
    await disks[0]?.write(4096, Buffer.alloc(2 * 1024 * 1024 + 1));
    await disks[1]?.trim(0, 4096);
    await checkpoints.setIfNews();
    await checkpoints.setIfNews();
    await checkpoints.set('before');
    const told = records.map(({ on, type, sequence, offset, length }) => [
      on,
      type,
      sequence,
      offset,
      length,
    ]);
    expect(told).toEqual([
      ['vda', 'write', 1, 4096, 1024 * 1024],
      ['vda', 'write', 2, 4096 + 1024 * 1024, 1024 * 1024],
      ['vda', 'write', 3, 4096 + 2 * 1024 * 1024, 1],
      ['vdb', 'discard', 4, 0, 4096],
      ['vda', 'checkpoint', 5, 0, 0],
      ['vdb', 'checkpoint', 5, 0, 0],
      ['vda', 'checkpoint', 6, 0, 6],
      ['vdb', 'checkpoint', 6, 0, 6],
    ]);
    expect(set).toEqual([5, 6]);
    expect(failures).toEqual([]);
  });
});
