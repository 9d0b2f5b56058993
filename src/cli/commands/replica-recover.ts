/** `offsite replica recover`: the disks of one state of a host, ready to boot from. */
import { type Command, Option } from 'commander';
import { visible } from '../../domain/plain-words.ts';
import { identArgument, pathArgument, textArgument, timeArgument, uuidArgument } from '../arguments.ts';
import type { CliIo } from '../cli-io.ts';
import { contextOf } from '../command-context.ts';
import type { RecoveredHost } from '../ports.ts';
import { renderTable } from '../render/table.ts';
import { renderSpan } from '../render/times.ts';
import { withReplicaInventory } from './replica-inventory.ts';

interface RecoverOptions {
  readonly point?: string;
  readonly at?: string;
  readonly marker?: string;
  readonly to: string;
  readonly format?: 'overlay' | 'qcow2' | 'raw';
}

/** Adds it to `replica`. */
export function addReplicaRecover(replica: Command, io: CliIo): void {
  replica
    .command('recover')
    .argument('<host>', "the host's ident", identArgument)
    .description('make the disks of a host ready to boot from, as they were at one instant')
    .addOption(
      new Option('--point <id>', 'the recovery point (default: the newest)')
        .argParser(uuidArgument)
        .conflicts(['at', 'marker']),
    )
    .addOption(
      new Option(
        '--at <time>',
        "the newest state at or before this time of the source's clock, ISO 8601 with a zone",
      )
        .argParser(timeArgument)
        .conflicts(['point', 'marker']),
    )
    .addOption(
      new Option('--marker <name>', 'the newest state that was marked with this name')
        .argParser(textArgument)
        .conflicts(['point', 'at']),
    )
    .requiredOption(
      '--to <dir>',
      'the folder for the disks; it must be new or empty (required)',
      pathArgument,
    )
    .addOption(
      new Option('--format <format>', 'full copies in this format (default: thin writable overlays)').choices(
        ['overlay', 'qcow2', 'raw'],
      ),
    )
    .addHelpText(
      'after',
      `
Without --format the disks are thin qcow2 files over the replica, and the replica stays as it is. The folder appears when
all disks are there. Of a point of continuous data protection every checkpoint can be recovered: --at takes the
newest one at or before a time, --point the newest of all. All disks are of the same instant.

Examples:
  $ offsite replica recover web1 --to /srv/boot
  $ offsite replica recover web1 --at 2026-11-24T13:59:00Z --to /srv/boot
  $ offsite replica recover web1 --point 0b5c9d1e-6a3f-4f1e-9d6c-2f8f6f0a7c11 --to /srv/boot --format raw`,
    )
    .action(async (host: string, { point, at, marker, to, format }: RecoverOptions, command: Command) => {
      const context = contextOf(io, command);
      const request = {
        ...{ host, point: point ?? null, at: at ?? null, marker: marker ?? null },
        ...{ directory: to, format: format ?? ('overlay' as const) },
      };
      const recovered = await withReplicaInventory(context, inventory => inventory.recover(request));
      context.print(recovered, recoveredText);
    });
}

function recoveredText(recovered: RecoveredHost): string {
  const { host, point, at, checkpoint, marker, askedAt, lostMs, warnings, disks } = recovered;
  const named = marker === null ? '' : `, marker '${visible(marker)}'`;
  const which = checkpoint === null ? `point ${point}` : `checkpoint ${checkpoint}${named} of point ${point}`;
  const lost = askedAt === null ? [] : [`${renderSpan(lostMs)} before ${askedAt}, which was asked for.`];
  return [
    `Recovered ${host} as it was at ${at} (${which}).`,
    ...lost,
    ...warnings.map(warning => `Warning: ${visible(warning)}.`),
    renderTable(
      [{ title: 'disk' }, { title: 'format' }, { title: 'path' }, { title: 'over' }],
      disks.map(({ disk, format, path, backing }) => [disk, format, path, backing ?? '-']),
      'It has no disks.',
    ),
  ].join('\n');
}
