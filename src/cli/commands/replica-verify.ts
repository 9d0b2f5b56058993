/** `offsite replica verify`: reads every sealed layer of this node whole, and repairs through the next task. */
import type { Command } from 'commander';
import type { SiteConfig } from '../../config/site-config.ts';
import { OffsiteError } from '../../domain/errors.ts';
import { formatSize } from '../../lib/sizes.ts';
import { identArgument, rateArgument } from '../arguments.ts';
import type { CliIo } from '../cli-io.ts';
import { contextOf } from '../command-context.ts';
import type { VerifiedReplicas, VerifyRequest } from '../ports.ts';
import { LiveArea } from '../render/live-area.ts';
import { loadSiteServices, openOrchestrator, using } from '../services.ts';

interface VerifyOptions {
  readonly repair?: boolean;
  readonly rate?: number;
}

/** What was done for a host whose newest recovery point is damaged. */
export interface RepairJson {
  readonly host: string;
  /** Null where no schedule of the host lives. */
  readonly schedule: string | null;
  /** `started`: a task was asked for; it sends the damaged disks again. */
  readonly action: 'started' | 'none';
  readonly text: string;
}

export interface VerifyJson extends VerifiedReplicas {
  /** Empty without --repair. */
  readonly repairs: readonly RepairJson[];
}

/** @param exit takes the exit code: 1 when something is damaged */
export function addReplicaVerify(replica: Command, io: CliIo, exit: (code: number) => void): void {
  replica
    .command('verify')
    .argument('[host]', "the host's ident (default: all hosts)", identArgument)
    .description("read this node's replicas whole and compare them with what was sealed")
    .option('--repair', 'have what the newest recovery points lack sent again, now')
    .option('--rate <rate>', 'read no faster than this, such as 100MiB/s (default: no limit)', rateArgument)
    .addHelpText(
      'after',
      `
Every file of every recovery point on this node is read: digests, header, tables and data. What is found is kept in the
catalog: 'replica list' marks the points that need a damaged file, and no increment is ever put on one. A file whose
owner, times or place changed, but no byte, is proven anew. Neither the source nor Temporal is needed, but for --repair.
Nothing is changed in a damaged file: the next task of the host's schedule sends the disk again beside it, and the points
that stand on the damaged file stay marked. Exit codes: 0 all is whole, 1 damage was found, 2 bad usage.

Examples:
  $ offsite replica verify --rate 100MiB/s
  $ offsite replica verify web1 --repair`,
    )
    .action(async (host: string | undefined, { repair, rate }: VerifyOptions, command: Command) => {
      const context = contextOf(io, command);
      const config = await context.config();
      const { openReplicaVerifier } = await loadSiteServices();
      const found = await using(openReplicaVerifier(config), verifier =>
        verifier.verify({
          host: host ?? null,
          rateBytesPerSecond: rate ?? null,
          signal: io.stopSignal(),
          onProgress: progressTo(io, context.json),
        }),
      );
      const repairs = repair === true ? await repairAll(config, found) : [];
      context.print({ ...found, repairs }, verifiedText);
      exit(found.damaged.length === 0 ? 0 : 1);
    });
}

const REDRAW_MS = 500;

/** A line on a terminal, drawn anew; nothing elsewhere. */
function progressTo(io: CliIo, json: boolean): VerifyRequest['onProgress'] {
  if (json || !io.isTerminal) return () => {};
  const area = new LiveArea(
    text => io.err(text),
    () => io.columns(),
  );
  let drawnAtMs = Number.NEGATIVE_INFINITY;
  return ({ layer, layers, checkedBytes, totalBytes }) => {
    const isLast = checkedBytes >= totalBytes;
    if (io.nowMs() - drawnAtMs < REDRAW_MS && !isLast) return;
    drawnAtMs = io.nowMs();
    area.draw([`file ${layer} of ${layers}: ${formatSize(checkedBytes)} of ${formatSize(totalBytes)} read`]);
  };
}

/** Whoever needs a newest point again gets a task now; what only older points need cannot be had from the source. */
async function repairAll(config: SiteConfig, found: VerifiedReplicas): Promise<readonly RepairJson[]> {
  const hosts = [...new Set(found.damaged.map(({ host }) => host))];
  const live = found.schedules.filter(({ state }) => state === 'live');
  const repairs: RepairJson[] = hosts
    .filter(host => !live.some(schedule => schedule.host === host))
    .map(host => ({ host, schedule: null, action: 'none', text: noScheduleText(host) }));
  if (live.length === 0) return repairs;
  return using(openOrchestrator(config), async orchestrator => {
    for (const { name, host } of live) {
      try {
        await orchestrator.request({ replicaSite: config.site, name }, 'runNow');
        const text = `${host}: schedule ${name} runs now and sends what is damaged again`;
        repairs.push({ host, schedule: name, action: 'started', text });
      } catch (error) {
        if (!(error instanceof OffsiteError)) throw error;
        const text = `${host}: schedule ${name} was not started: ${error.message}; its next task sends what is damaged again`;
        repairs.push({ host, schedule: name, action: 'none', text });
      }
    }
    return repairs;
  });
}

const noScheduleText = (host: string): string =>
  `${host}: nothing is repaired: its newest recovery point does not need the file, or no schedule of the host lives`;

function verifiedText({ layers, checkedBytes, damaged, proven, schedules, repairs }: VerifyJson): string {
  const lines = damaged.flatMap(({ host, disk, path, reason, points }) => [
    `DAMAGED ${host} ${disk}: ${path}`,
    `  ${reason}`,
    points.length === 0
      ? '  no recovery point needs it'
      : `  needed by ${points.length} recovery ${points.length === 1 ? 'point' : 'points'}: ${points
          .map(({ sequence, point }) => `${sequence} (${point})`)
          .join(', ')}`,
  ]);
  const waiting = repairs.length > 0 ? [] : schedules.map(({ name, host }) => nextTaskText(name, host));
  return [
    ...lines,
    ...proven.map(path => `proven anew: ${path}`),
    ...repairs.map(({ text }) => text),
    ...waiting,
    `${layers} files read (${formatSize(checkedBytes)}), ${damaged.length === 0 ? 'none' : damaged.length} damaged.`,
  ].join('\n');
}

const nextTaskText = (name: string, host: string): string =>
  `${host}: the next task of schedule ${name} sends what is damaged again; --repair starts it now`;
