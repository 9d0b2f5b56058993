import { describe, expect, it } from 'vitest';
import { RateMeter, renderBar, renderDiskProgress } from '../../../src/cli/render/bar.ts';
import { LiveArea } from '../../../src/cli/render/live-area.ts';
import { printable, renderFacts, renderTable } from '../../../src/cli/render/table.ts';
import { renderSpan, renderTime } from '../../../src/cli/render/times.ts';

describe('renderTable', () => {
  it('aligns columns, numbers to the right, without blanks at line ends', () => {
    const table = renderTable(
      [{ title: 'host' }, { title: 'number', align: 'right' }, { title: 'note' }],
      [
        ['web1', '7', ''],
        ['a-long-name', '12', 'paused'],
      ],
      'none',
    );
    expect(table.split('\n')).toEqual([
      'HOST         NUMBER  NOTE',
      'web1              7',
      'a-long-name      12  paused',
    ]);
  });

  it('says so when there are no rows', () => {
    expect(renderTable([{ title: 'host' }], [], 'Nothing is locked.')).toBe('Nothing is locked.');
  });

  it('shows control characters as escapes: a name cannot steer the terminal', () => {
    expect(printable('a\u001b[2Jb\nc')).toBe('a\\u001b[2Jb\\nc');
    expect(renderTable([{ title: 'path' }], [['/x\ny']], '')).toBe('PATH\n/x\\ny');
  });

  it('leaves out facts that are not known', () => {
    expect(
      renderFacts([
        ['state', 'running'],
        ['age', null],
        ['next run', '-'],
      ]),
    ).toBe('state     running\nnext run  -');
  });
});

describe('renderBar', () => {
  it.each([
    [0, '[──────────]'],
    [0.55, '[█████─────]'],
    [1, '[██████████]'],
    [1.5, '[██████████]'],
    [null, '[··········]'],
  ])('draws %s', (share, bar) => {
    expect(renderBar(share, 10)).toBe(bar);
  });
});

describe('renderDiskProgress', () => {
  const disk = {
    disk: 'vda',
    method: 'full',
    bytesSent: 1.5 * 2 ** 30,
    bytesTotal: 3 * 2 ** 30,
    bytesPerSecond: 2 ** 20 * 100,
    note: null,
  };

  it('tells per cent, bytes, rate and time left', () => {
    expect(renderDiskProgress([disk], 120)).toEqual([
      '  vda  full  [███████████████───────────────]  50%  1.5 GiB of 3.0 GiB  100 MiB/s  16s left',
    ]);
  });

  it('tells no rate of what is done, and what else a transfer does', () => {
    const done = { ...disk, bytesSent: disk.bytesTotal, note: 'is being sealed' };
    const stuck = { ...disk, bytesPerSecond: 0, note: 'waits for the receiver' };
    const lines = renderDiskProgress([done, stuck], 120);
    expect(lines[0]?.slice(45)).toBe(' 100%  3.0 GiB of 3.0 GiB  is being sealed');
    expect(lines[1]?.slice(45)).toBe('  50%  1.5 GiB of 3.0 GiB  0 B/s  waits for the receiver');
  });

  it('aligns disks and knows no total yet', () => {
    const lines = renderDiskProgress(
      [disk, { ...disk, disk: 'vdb10', bytesSent: 0, bytesTotal: null, bytesPerSecond: null }],
      120,
    );
    expect(lines[1]).toBe('  vdb10  full  [······························]   begins');
    expect(lines[0]?.startsWith('  vda    full  [')).toBe(true);
  });

  it('fits every width', () => {
    for (const columns of [1, 20, 60, 80, 200]) {
      for (const line of renderDiskProgress([disk], columns))
        expect(line.length).toBeLessThanOrEqual(columns);
    }
  });
});

describe('RateMeter', () => {
  it('averages over its window and begins anew when the number falls', () => {
    const meter = new RateMeter(2_000);
    expect(meter.add(0, 0)).toBeNull();
    expect(meter.add(1_000, 1_000)).toBe(1_000);
    expect(meter.add(2_000, 5_000)).toBe(2_500);
    expect(meter.add(4_000, 5_000)).toBe(0);
    expect(meter.add(5_000, 100)).toBeNull();
    expect(meter.add(6_000, 300)).toBe(200);
  });
});

describe('LiveArea', () => {
  it('goes up by as many lines as it drew, and not after it settled', () => {
    const written: string[] = [];
    const area = new LiveArea(
      text => written.push(text),
      () => 80,
    );
    area.draw(['one', 'two']);
    area.draw(['three']);
    area.settle();
    area.draw(['four']);
    expect(written.map(text => text.startsWith('\u001b['))).toEqual([false, true, false]);
    expect(written[1]?.startsWith('\u001b[2A')).toBe(true);
  });

  it('goes up further where the terminal became narrower, and leaves no trace of the key that ended it', () => {
    const written: string[] = [];
    let columns = 80;
    const area = new LiveArea(
      text => written.push(text),
      () => columns,
    );
    area.end();
    expect(written).toEqual([]);
    area.draw(['x'.repeat(50), '']);
    columns = 20;
    area.draw(['y']);
    expect(written[1]?.startsWith('\u001b[4A')).toBe(true);
    area.end();
    expect(written[2]).toBe('\r\u001b[J');
  });
});

describe('times', () => {
  it('writes the two largest units of a span', () => {
    expect(renderSpan(null)).toBe('-');
    expect(renderSpan(0)).toBe('0s');
    expect(renderSpan(200_000)).toBe('3m20s');
    expect(renderSpan(187_265_000)).toBe('2d4h');
  });

  it('writes times in UTC with their distance', () => {
    const nowMs = Date.parse('2026-11-24T02:00:00Z');
    expect(renderTime('2026-11-24T02:05:00.000Z', nowMs)).toBe('2026-11-24 02:05:00Z (in 5m)');
    expect(renderTime('2026-11-24T01:00:00.000Z', nowMs)).toBe('2026-11-24 01:00:00Z (1h ago)');
    expect(renderTime('2026-11-20T01:00:00.000Z', nowMs)).toBe('2026-11-20 01:00:00Z');
    expect(renderTime(null, nowMs)).toBe('-');
  });
});
