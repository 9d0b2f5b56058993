import { type Command, Option } from 'commander';
import { formatSize } from '../../lib/sizes.ts';
import { identArgument, pathArgument, uuidArgument } from '../arguments.ts';
import type { CliIo } from '../cli-io.ts';
import { type CommandContext, contextOf } from '../command-context.ts';
import type { ReplicaInventory } from '../ports.ts';
import { renderTable } from '../render/table.ts';
import { loadSiteServices, using } from '../services.ts';
import { addReplicaFileCommands } from './replica-files.ts';
import { addSeedCommands } from './replica-seeds.ts';
import { addReplicaVerify } from './replica-verify.ts';

interface RecoverOptions {
  readonly point?: string;
  readonly to: string;
  readonly format?: 'qcow2' | 'raw';
}

/** `offsite replica …`: what a site can boot from. Needs neither the source nor Temporal. */
export function addReplicaCommands(program: Command, io: CliIo, exit: (code: number) => void): void {
  const replica = program.command('replica').description("look at and use a replica site's recovery points");

  replica
    .command('list')
    .argument('[host]', "the host's ident (default: all hosts)", identArgument)
    .description('list the recovery points')
    .addHelpText('after', '\nExample:\n  $ offsite replica list web1')
    .action(async (host: string | undefined, _options: object, command: Command) => {
      const context = contextOf(io, command);
      const points = await withInventory(context, inventory => inventory.listPoints({ host: host ?? null }));
      context.print(points, all =>
        renderTable(
          [
            { title: 'host' },
            { title: 'number', align: 'right' },
            { title: 'point' },
            { title: 'taken at' },
            { title: 'published at' },
            { title: 'disk' },
            { title: 'size', align: 'right' },
            { title: 'state' },
            { title: 'path' },
          ],
          all.flatMap(({ host, sequence, point, takenAt, publishedAt, disks }) =>
            disks.map(({ disk, virtualSizeBytes, damage, path }, index) => [
              ...(index === 0 ? [host, String(sequence), point, takenAt, publishedAt] : ['', '', '', '', '']),
              disk,
              formatSize(virtualSizeBytes),
              damage === null ? 'whole' : damage.kind === 'doubt' ? 'IN DOUBT' : 'DAMAGED',
              path,
            ]),
          ),
          host === undefined ? 'There are no recovery points.' : `There are no recovery points of '${host}'.`,
        ),
      );
    });

  addReplicaFileCommands(replica, io);
  addReplicaVerify(replica, io, exit);
  addSeedCommands(replica, io);

  replica
    .command('recover')
    .argument('<host>', "the host's ident", identArgument)
    .description('make the disks of a recovery point ready to boot from')
    .option('--point <id>', 'the recovery point (default: the newest)', uuidArgument)
    .requiredOption('--to <dir>', 'the folder for the disks; made if need be (required)', pathArgument)
    .addOption(
      new Option('--format <format>', 'full copies in this format (default: thin writable overlays)').choices(
        ['qcow2', 'raw'],
      ),
    )
    .addHelpText(
      'after',
      `
Without --format the disks are thin qcow2 files over the replica: ready at once, and the replica stays as it is.

Examples:
  $ offsite replica recover web1 --to /srv/boot
  $ offsite replica recover web1 --point 0b5c9d1e-6a3f-4f1e-9d6c-2f8f6f0a7c11 --to /srv/boot --format raw`,
    )
    .action(async (host: string, { point, to, format }: RecoverOptions, command: Command) => {
      const context = contextOf(io, command);
      const request = { host, point: point ?? null, directory: to, format: format ?? ('overlay' as const) };
      const recovered = await withInventory(context, inventory => inventory.recover(request));
      context.print(recovered, ({ point, takenAt, disks }) =>
        [
          `Recovered ${host} as it was at ${takenAt} (point ${point}).`,
          renderTable(
            [{ title: 'disk' }, { title: 'format' }, { title: 'path' }, { title: 'over' }],
            disks.map(({ disk, format, path, backing }) => [disk, format, path, backing ?? '-']),
            'It has no disks.',
          ),
        ].join('\n'),
      );
    });
}

async function withInventory<T>(
  context: CommandContext,
  use: (inventory: ReplicaInventory) => Promise<T>,
): Promise<T> {
  const config = await context.config();
  const { openReplicaInventory } = await loadSiteServices();
  return using(openReplicaInventory(config), use);
}
