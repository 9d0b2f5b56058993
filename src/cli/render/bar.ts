/** Progress bars and the rates beside them. */
import { formatDuration } from '../../lib/durations.ts';
import { formatRate, formatSize } from '../../lib/sizes.ts';

/**
 * A bar of `width` characters between brackets.
 * @param share 0 to 1; null for unknown
 */
export function renderBar(share: number | null, width: number): string {
  if (share === null) return `[${'·'.repeat(width)}]`;
  const full = Math.floor(Math.min(1, Math.max(0, share)) * width);
  return `[${'█'.repeat(full)}${'─'.repeat(width - full)}]`;
}

export interface DiskProgress {
  readonly disk: string;
  readonly method: string;
  readonly bytesSent: number;
  /** Null or zero until it is known what there is to send. */
  readonly bytesTotal: number | null;
  /** Null until it can be told. */
  readonly bytesPerSecond: number | null;
  /** Stands in the place of numbers while there are none. */
  readonly note: string | null;
}

/** One line a disk: name, method, bar, per cent, bytes, rate and time left, within `columns`. */
export function renderDiskProgress(disks: readonly DiskProgress[], columns: number): string[] {
  const nameWidth = Math.max(0, ...disks.map(({ disk }) => disk.length));
  const methodWidth = Math.max(0, ...disks.map(({ method }) => method.length));
  return disks.map(progress => {
    const left = `  ${progress.disk.padEnd(nameWidth)}  ${progress.method.padEnd(methodWidth)}  `;
    const right = ` ${numbersOf(progress)}`;
    const barWidth = Math.min(BAR_WIDTH, columns - left.length - right.length - 2);
    const line =
      barWidth < 5
        ? `${left}${right.trimStart()}`
        : `${left}${renderBar(shareOf(progress), barWidth)}${right}`;
    return line.slice(0, columns);
  });
}

const BAR_WIDTH = 30;

/** What is done, 0 to 1; null until it is known what there is to do. */
export function shareOf({
  bytesSent,
  bytesTotal,
}: Pick<DiskProgress, 'bytesSent' | 'bytesTotal'>): number | null {
  if (bytesTotal === null || bytesTotal <= 0) return null;
  return Math.min(1, bytesSent / bytesTotal);
}

function numbersOf(progress: DiskProgress): string {
  const { bytesSent, bytesTotal, note } = progress;
  const share = shareOf(progress);
  if (share === null || bytesTotal === null) return `  ${note ?? 'begins'}`;
  const percent = `${Math.floor(share * 100)}`.padStart(3);
  return `${percent}%  ${formatSize(bytesSent)} of ${formatSize(bytesTotal)}${speedOf(progress)}`;
}

function speedOf({ bytesSent, bytesTotal, bytesPerSecond, note }: DiskProgress): string {
  if (bytesTotal === null || bytesSent >= bytesTotal) return note === null ? '' : `  ${note}`;
  if (bytesPerSecond === null) return '';
  const rate = `  ${formatRate(bytesPerSecond)}`;
  if (bytesPerSecond <= 0) return note === null ? rate : `${rate}  ${note}`;
  const leftMs = Math.ceil((bytesTotal - bytesSent) / bytesPerSecond) * 1000;
  return `${rate}  ${formatDuration(leftMs)} left`;
}

/** Tells a rate from samples of a rising number of bytes, over the last few seconds. */
export class RateMeter {
  readonly #windowMs: number;
  #samples: { atMs: number; bytes: number }[] = [];

  constructor(windowMs = 5_000) {
    this.#windowMs = windowMs;
  }

  /** @returns bytes per second, null before there are two samples; a number that falls begins anew */
  add(atMs: number, bytes: number): number | null {
    const last = this.#samples.at(-1);
    if (last !== undefined && bytes < last.bytes) this.#samples = [];
    this.#samples.push({ atMs, bytes });
    while (this.#samples.length > 2 && atMs - (this.#samples[1]?.atMs ?? atMs) >= this.#windowMs) {
      this.#samples.shift();
    }
    const first = this.#samples[0];
    if (first === undefined || atMs <= first.atMs) return null;
    return ((bytes - first.bytes) * 1000) / (atMs - first.atMs);
  }
}
