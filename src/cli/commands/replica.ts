import type { Command } from 'commander';
import { visible } from '../../domain/plain-words.ts';
import { formatSize } from '../../lib/sizes.ts';
import { identArgument } from '../arguments.ts';
import type { CliIo } from '../cli-io.ts';
import { contextOf } from '../command-context.ts';
import type { ListedPoint } from '../ports.ts';
import { renderTable } from '../render/table.ts';
import { addReplicaFileCommands } from './replica-files.ts';
import { withReplicaInventory as withInventory } from './replica-inventory.ts';
import { addReplicaRecover } from './replica-recover.ts';
import { addSeedCommands } from './replica-seeds.ts';
import { addReplicaVerify } from './replica-verify.ts';

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
      context.print(
        points,
        all =>
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
                ...(index === 0
                  ? [host, String(sequence), point, takenAt, publishedAt]
                  : ['', '', '', '', '']),
                disk,
                formatSize(virtualSizeBytes),
                damage === null ? 'whole' : damage.kind === 'doubt' ? 'IN DOUBT' : 'DAMAGED',
                path,
              ]),
            ),
            host === undefined
              ? 'There are no recovery points.'
              : `There are no recovery points of '${host}'.`,
          ) + epochLines(all),
      );
    });

  replica
    .command('markers')
    .argument('[host]', "the host's ident (default: all hosts)", identArgument)
    .description('list the named markers of continuous data protection that can be recovered')
    .addHelpText('after', '\nExample:\n  $ offsite replica markers web1')
    .action(async (host: string | undefined, _options: object, command: Command) => {
      const context = contextOf(io, command);
      const markers = await withInventory(context, inventory =>
        inventory.listMarkers({ host: host ?? null }),
      );
      context.print(markers, all =>
        renderTable(
          [
            { title: 'host' },
            { title: 'marker' },
            { title: 'at' },
            { title: 'checkpoint', align: 'right' },
            { title: 'point' },
          ],
          all.map(({ host: of, name, markedAt, checkpoint, point }) => [
            ...[of, visible(name), markedAt, String(checkpoint), point],
          ]),
          host === undefined ? 'There are no markers.' : `There are no markers of '${host}'.`,
        ),
      );
    });

  addReplicaFileCommands(replica, io);
  addReplicaVerify(replica, io, exit);
  addSeedCommands(replica, io);

  addReplicaRecover(replica, io);
}

/** What a table of points cannot say: every state of an epoch, and times without one. */
function epochLines(points: readonly ListedPoint[]): string {
  const lines = points.flatMap(({ host, point, cdp }) => {
    if (cdp === null) return [];
    const { from, to, newestCheckpoint, markers, endedAt, endedReason, gaps } = cdp;
    const end = endedAt === null ? '' : `; ended: ${endedReason}`;
    const states =
      from === null || to === null
        ? 'no state'
        : `every checkpoint from ${from} to ${to} (newest ${newestCheckpoint}, ${markers} named)`;
    return [
      ...gaps.map(gap => `${host}: NO STATES from ${gap.from} to ${gap.to}: ${gap.reason}`),
      `${host}: point ${point} has ${states}${end}`,
    ];
  });
  return lines.length === 0 ? '' : `\n\n${lines.join('\n')}`;
}
