import type { Command } from 'commander';
import { formatSize } from '../../lib/sizes.ts';
import { diskArgument, identArgument, timeArgument, uuidArgument } from '../arguments.ts';
import type { CliIo } from '../cli-io.ts';
import { contextOf } from '../command-context.ts';
import type { DiskPath, ListedDisk } from '../ports.ts';
import { renderTable } from '../render/table.ts';
import { addSourceImportLog } from './source-import-log.ts';
import { withInventory } from './source-inventory.ts';
import { addPinCommands } from './source-pins.ts';
import { addRecorderCommands } from './source-recorder.ts';
import { addSourceSpaceCommand } from './source-space.ts';

/** `offsite source …`: what a site has to give. */
export function addSourceCommands(program: Command, io: CliIo): void {
  const source = program.command('source').description("register and look at a source site's host snapshots");

  source
    .command('import')
    .argument('<host>', "the host's ident", identArgument)
    .description('register a host snapshot from frozen layers; parents are found through the backing chain')
    .requiredOption(
      '--disk <name=path>',
      'a disk and the top of its chain of frozen layers; repeat it for each disk (required)',
      diskArgument,
    )
    .option(
      '--taken-at <time>',
      'when the snapshot was taken, ISO 8601 with a zone (default: as the files say)',
      timeArgument,
    )
    .addHelpText(
      'after',
      `
The layers must be frozen: nothing writes to them any more. The same import again changes nothing.

Example:
  $ offsite source import web1 --disk vda=/images/vda-3.qcow2 --disk vdb=/images/vdb-3.qcow2`,
    )
    .action(async (host: string, options: { disk: DiskPath[]; takenAt?: string }, command: Command) => {
      const context = contextOf(io, command);
      const request = { host, disks: options.disk, takenAt: options.takenAt ?? null };
      const imported = await withInventory(context, inventory => inventory.importSnapshot(request));
      context.print(imported, ({ created, snapshot, sequence, disks, warnings }) =>
        [
          `${created ? 'Registered' : 'Already registered:'} snapshot ${snapshot} of ${host} (number ${sequence}).`,
          diskTable(disks),
          ...warnings.map(warning => `Warning: ${warning}`),
        ].join('\n'),
      );
    });

  addSourceImportLog(source, io);

  source
    .command('list')
    .argument('[host]', "the host's ident (default: all hosts)", identArgument)
    .description('list the host snapshots')
    .addHelpText('after', '\nExample:\n  $ offsite source list web1')
    .action(async (host: string | undefined, _options: object, command: Command) => {
      const context = contextOf(io, command);
      const snapshots = await withInventory(context, inventory =>
        inventory.listSnapshots({ host: host ?? null }),
      );
      context.print(snapshots, all =>
        renderTable(
          [
            { title: 'host' },
            { title: 'number', align: 'right' },
            { title: 'snapshot' },
            { title: 'taken at' },
            { title: 'kind' },
            { title: 'disks' },
          ],
          all.map(({ host, sequence, snapshot, takenAt, kind, disks }) => [
            host,
            String(sequence),
            snapshot,
            takenAt,
            kind,
            diskList(disks),
          ]),
          host === undefined ? 'No snapshots are registered.' : `No snapshots of '${host}' are registered.`,
        ),
      );
    });

  source
    .command('locks')
    .description('list the snapshots that schedules still need: they cannot be forgotten')
    .addHelpText('after', '\nExample:\n  $ offsite source locks')
    .action(async (_options: object, command: Command) => {
      const context = contextOf(io, command);
      const locks = await withInventory(context, inventory => inventory.listLocks());
      context.print(locks, all =>
        renderTable(
          [
            { title: 'host' },
            { title: 'snapshot' },
            { title: 'lock type' },
            { title: 'task' },
            { title: 'locked at' },
          ],
          all.map(({ host, snapshot, lockType, taskUuid, lockedAt }) => [
            host,
            snapshot,
            lockType,
            taskUuid,
            lockedAt,
          ]),
          'Nothing is locked.',
        ),
      );
    });

  addSourceSpaceCommand(source, io);

  source
    .command('forget')
    .argument('<snapshot>', "the host snapshot's UUID", uuidArgument)
    .description("remove a snapshot's row, never a file; refused while it or a snapshot above it is locked")
    .addHelpText(
      'after',
      `
Example:
  $ offsite source forget 0b5c9d1e-6a3f-4f1e-9d6c-2f8f6f0a7c11`,
    )
    .action(async (snapshot: string, _options: object, command: Command) => {
      const context = contextOf(io, command);
      const forgotten = await withInventory(context, inventory => inventory.forget(snapshot));
      context.print(
        forgotten,
        () => `Forgot snapshot ${forgotten.snapshot} of ${forgotten.host}; its files stay.`,
      );
    });

  addRecorderCommands(source, io);
  addPinCommands(source, io);
}

const diskList = (disks: readonly ListedDisk[]): string =>
  disks.map(({ disk, virtualSizeBytes }) => `${disk} ${formatSize(virtualSizeBytes)}`).join(', ');

/** Disks with their files, for the commands that print a single snapshot or point. */
export const diskTable = (disks: readonly ListedDisk[]): string =>
  renderTable(
    [{ title: 'disk' }, { title: 'size', align: 'right' }, { title: 'path' }],
    disks.map(({ disk, virtualSizeBytes, path }) => [disk, formatSize(virtualSizeBytes), path]),
    'It has no disks.',
  );
