import { type Command, Option } from 'commander';
import { formatSize } from '../../lib/sizes.ts';
import { diskArgument, identArgument } from '../arguments.ts';
import type { CliIo } from '../cli-io.ts';
import { type CommandContext, contextOf } from '../command-context.ts';
import type { DiskPath, ListedSeed, ReplicaSeeds } from '../ports.ts';
import { renderTable } from '../render/table.ts';
import { loadSiteServices, using } from '../services.ts';

/** `offsite replica seed`, `seeds` and `unseed`: images that came by truck, to be compared with. */
export function addSeedCommands(replica: Command, io: CliIo): void {
  replica
    .command('seed')
    .argument('<host>', "the host's ident", identArgument)
    .description(
      "register images of a host's disks that were brought here, so that only what differs is sent",
    )
    .requiredOption(
      '--disk <name=path>',
      'a disk and an image of it; repeat it for each disk (required)',
      diskArgument,
    )
    .addOption(
      new Option('--format <format>', "the images' format (default: by .qcow2 or .raw)").choices([
        'qcow2',
        'raw',
      ]),
    )
    .addHelpText(
      'after',
      `
The images are only ever read, and must lie below replica.seedRoots of the configuration (by default the folder seeds
in dataDir). The next task that cannot go on from a recovery point compares the disks with them; once its point is
published they are of no use any more, and you may remove them.

Example:
  $ offsite replica seed web1 --disk vda=/srv/seeds/vda.qcow2 --disk vdb=/srv/seeds/vdb.raw`,
    )
    .action(
      async (
        host: string,
        { disk, format }: { disk: DiskPath[]; format?: 'qcow2' | 'raw' },
        command: Command,
      ) => {
        const context = contextOf(io, command);
        const request = { host, disks: disk, format: format ?? null };
        const registered = await withSeeds(context, seeds => seeds.register(request));
        context.print(registered, all =>
          [
            `Registered; the next whole copy of ${host} is compared with them.`,
            seedTable(all, 'It has no disks.'),
          ].join('\n'),
        );
      },
    );

  replica
    .command('seeds')
    .argument('[host]', "the host's ident (default: all hosts)", identArgument)
    .description('list the images that were brought here, and whether they have served')
    .addHelpText('after', '\nExample:\n  $ offsite replica seeds web1')
    .action(async (host: string | undefined, _options: object, command: Command) => {
      const context = contextOf(io, command);
      const all = await withSeeds(context, seeds => seeds.list({ host: host ?? null }));
      context.print(all, listed => seedTable(listed, 'No images were brought here.'));
    });

  replica
    .command('unseed')
    .argument('<host>', "the host's ident", identArgument)
    .argument('<disk>', "the disk's ident", identArgument)
    .description('forget an image that waits to be compared with; the file itself stays')
    .addHelpText('after', '\nExample:\n  $ offsite replica unseed web1 vda')
    .action(async (host: string, disk: string, _options: object, command: Command) => {
      const context = contextOf(io, command);
      const forgotten = await withSeeds(context, seeds => seeds.forget({ host, disk }));
      context.print(
        forgotten,
        ({ path }) => `Forgotten: ${host} ${disk}. The file ${path} stays where it is.`,
      );
    });
}

const seedTable = (seeds: readonly ListedSeed[], none: string): string =>
  renderTable(
    [
      { title: 'host' },
      { title: 'disk' },
      { title: 'format' },
      { title: 'size', align: 'right' },
      { title: 'path' },
      { title: 'state' },
    ],
    seeds.map(({ host, disk, format, virtualSizeBytes, path, usedByPoint }) => [
      host,
      disk,
      format,
      formatSize(virtualSizeBytes),
      path,
      usedByPoint === null ? 'waits' : `served for point ${usedByPoint}; no longer needed`,
    ]),
    none,
  );

async function withSeeds<T>(context: CommandContext, use: (seeds: ReplicaSeeds) => Promise<T>): Promise<T> {
  const config = await context.config();
  const { openReplicaSeeds } = await loadSiteServices();
  return using(openReplicaSeeds(config), use);
}
