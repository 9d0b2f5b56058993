/** A host of two disks at site a, whose snapshots QEMU's own tools make. */
import { join } from 'node:path';
import { qemuImg, qemuIo } from './qemu.ts';
import type { TwoSites } from './two-sites.ts';

export interface ScheduleShow {
  readonly name: string;
  readonly uuid: string;
  readonly state: string;
  readonly behindMs: number | null;
  readonly paused: boolean;
  readonly lastTask: {
    readonly taskUuid: string;
    readonly outcome: string | null;
    readonly reason: string | null;
    readonly hostSnapshot: string | null;
    readonly warnings: readonly string[];
    readonly disks: readonly {
      readonly disk: string;
      readonly method: string;
      readonly reason: string;
      readonly bytesSent: number;
      readonly bytesTotal: number;
    }[];
  } | null;
  readonly retry: {
    readonly attempt: number;
    readonly reason: string;
    readonly code: string | null;
    readonly activity: string;
  } | null;
}

export interface ListedPoint {
  readonly host: string;
  readonly point: string;
  readonly sequence: number;
  readonly disks: readonly {
    readonly disk: string;
    readonly path: string;
    readonly virtualSizeBytes: number;
    readonly damage: { readonly path: string } | null;
  }[];
}

export interface ListedLock {
  readonly snapshot: string;
  readonly lockType: string;
  readonly taskUuid: string;
}

export interface HostImages {
  /** The newest layer of each disk, frozen as soon as a newer one is made. */
  readonly tops: Record<string, string>;
  readonly count: number;
  /** Makes the next snapshot: an overlay a disk, written by qemu-io. Imports it. @returns its UUID */
  next(write: (disk: string) => readonly string[]): Promise<string>;
}

/** Makes `host`'s disks of the given sizes below the sites' image folder. */
export async function createHostImages(
  sites: TwoSites,
  host: string,
  sizes: Record<string, string> = { vda: '256M', vdb: '128M' },
): Promise<HostImages> {
  const tops: Record<string, string> = {};
  let count = 0;
  return {
    tops,
    get count() {
      return count;
    },
    async next(write) {
      count += 1;
      for (const [disk, size] of Object.entries(sizes)) {
        const path = join(sites.imageDir, `${host}-${disk}-${count}.qcow2`);
        const below = tops[disk];
        await (below === undefined
          ? qemuImg('create', '-q', '-f', 'qcow2', path, size)
          : qemuImg('create', '-q', '-f', 'qcow2', '-b', below, '-F', 'qcow2', path));
        const commands = write(disk);
        if (commands.length > 0) await qemuIo(path, commands);
        tops[disk] = path;
      }
      const { snapshot } = await sites.json<{ snapshot: string }>(
        'a',
        'source',
        'import',
        host,
        ...Object.entries(tops).flatMap(([disk, path]) => ['--disk', `${disk}=${path}`]),
      );
      return snapshot;
    },
  };
}

/** @param options of the command line, such as `--bandwidth` */
export const createSchedule = (
  sites: TwoSites,
  name: string,
  host: string,
  ...options: string[]
): Promise<unknown> =>
  sites.json(
    'b',
    'schedule',
    'create',
    name,
    ...['--source', sites.siteName.a, '--host', host, '--every', '1h', ...options],
  );

export const showSchedule = (sites: TwoSites, name: string): Promise<ScheduleShow> =>
  sites.json<ScheduleShow>('b', 'schedule', 'show', name);

/** Waits until `ready` says yes; the test's own time-out bounds it. */
export async function until<T>(
  what: string,
  look: () => Promise<T>,
  ready: (found: T) => boolean,
  timeoutMs = 200_000,
): Promise<T> {
  const end = Date.now() + timeoutMs;
  for (;;) {
    const found = await look();
    if (ready(found)) return found;
    if (Date.now() > end) throw new Error(`never saw ${what}; last: ${JSON.stringify(found)}`);
    await new Promise(resolve => setTimeout(resolve, 300));
  }
}

/** Waits until the snapshot is a recovery point and the task that made it has ended. */
export async function untilPublished(sites: TwoSites, name: string, snapshot: string): Promise<ScheduleShow> {
  return until(
    `${snapshot} published`,
    () => showSchedule(sites, name),
    ({ lastTask }) => lastTask?.outcome === 'published' && lastTask.hostSnapshot === snapshot,
  );
}
