/** `offsite replica space` and `offsite replica sweep`: what the files of this node's replicas take, and strays. */
import type { Command } from 'commander';
import { formatSize } from '../../lib/sizes.ts';
import { durationArgument } from '../arguments.ts';
import type { CliIo } from '../cli-io.ts';
import { type CommandContext, contextOf } from '../command-context.ts';
import type { ReplicaFileService, StrayFile, SweptFiles } from '../ports.ts';
import { renderTable } from '../render/table.ts';
import { loadSiteServices, using } from '../services.ts';

const DEFAULT_GRACE = '1h';

/** Adds them to `replica`. */
export function addReplicaFileCommands(replica: Command, io: CliIo): void {
  replica
    .command('space')
    .description("show what this node's replicas occupy, what is free, and the quotas")
    .addHelpText('after', '\nExample:\n  $ offsite replica space')
    .action(async (_options: object, command: Command) => {
      const context = contextOf(io, command);
      const space = await withFiles(context, files => files.space());
      context.print(
        space,
        ({ directory, freeBytes, sizeBytes, reserveBytes, usedBytes, quotaBytes, hosts }) =>
          [
            `${directory}: ${formatSize(freeBytes)} of ${formatSize(sizeBytes)} are free, ${formatSize(reserveBytes)} stay free.`,
            `The replicas of this node occupy ${formatSize(usedBytes)}${ofQuota(quotaBytes)}.`,
            renderTable(
              [{ title: 'host' }, { title: 'occupies', align: 'right' }, { title: 'quota', align: 'right' }],
              hosts.map(({ host, usedBytes: used, quotaBytes: quota }) => [
                host,
                formatSize(used),
                quota === null ? '-' : formatSize(quota),
              ]),
              'There are no replicas.',
            ),
          ].join('\n'),
      );
    });

  replica
    .command('sweep')
    .description('remove stray files of replicas from this node, as its worker does each hour')
    .option('--dry-run', 'remove nothing: say what would go')
    .option(
      '--older-than <duration>',
      `leave files alone that changed more lately (default: ${DEFAULT_GRACE})`,
      durationArgument,
    )
    .addHelpText(
      'after',
      `
A stray file has the name of a replica's file, but the catalog does not know its layer, has given it up, or needs the
file no more. What a running or unfinished task owns is never touched, nor are other names and symbolic links. A file
that looks like a whole layer which the catalog misses is named, and stays.

Examples:
  $ offsite replica sweep --dry-run
  $ offsite replica sweep --older-than 10m`,
    )
    .action(async (options: { dryRun?: boolean; olderThan?: number }, command: Command) => {
      const context = contextOf(io, command);
      const request = { dryRun: options.dryRun ?? false, graceMs: options.olderThan ?? null };
      const swept = await withFiles(context, files => files.sweep(request));
      context.print(swept, sweptText);
    });
}

const ofQuota = (quotaBytes: number | null): string =>
  quotaBytes === null ? '' : ` of ${formatSize(quotaBytes)} (quota)`;

function sweptText({ dryRun, removed, waiting, unknown, freedBytes }: SweptFiles): string {
  const lines = (title: string, files: readonly StrayFile[]): string[] =>
    files.length === 0
      ? []
      : [
          title,
          ...files.map(({ path, sizeBytes, reason }) => `  ${path} (${formatSize(sizeBytes)}): ${reason}`),
        ];
  const all = [
    ...lines(`${dryRun ? 'Would remove' : 'Removed'} (${formatSize(freedBytes)}):`, removed),
    ...lines('Not old enough yet:', waiting),
    ...lines('Not known to the catalog; they stay, look at them yourself:', unknown),
  ];
  return all.length === 0 ? 'There are no stray files.' : all.join('\n');
}

async function withFiles<T>(
  context: CommandContext,
  use: (files: ReplicaFileService) => Promise<T>,
): Promise<T> {
  const config = await context.config();
  const { openReplicaFileService } = await loadSiteServices();
  return using(openReplicaFileService(config), use);
}
