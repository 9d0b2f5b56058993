/** `offsite source import-log`: logs of writes onto a host's newest snapshot. */
import type { Command } from 'commander';
import { diskArgument, identArgument } from '../arguments.ts';
import type { CliIo } from '../cli-io.ts';
import { contextOf } from '../command-context.ts';
import type { DiskPath } from '../ports.ts';
import { renderTable } from '../render/table.ts';
import { withInventory } from './source-inventory.ts';

/** Adds it to `source`. */
export function addSourceImportLog(source: Command, io: CliIo): void {
  source
    .command('import-log')
    .argument('<host>', "the host's ident", identArgument)
    .description("make an epoch of logs of writes onto the host's newest snapshot")
    .requiredOption(
      '--disk <name=path>',
      'a disk and the log of its writes; repeat it for each disk that was written to (required)',
      diskArgument,
    )
    .addHelpText(
      'after',
      `
A log is what dm-log-writes, or QEMU's blklogwrites, writes. It begins with the state of the host's newest snapshot, and
nobody writes to it any more. Marks that all logs have become markers of the host, its end the newest checkpoint; of a
single log every flush becomes a checkpoint. The epoch is replicated like one that was recorded.

Example:
  $ offsite source import-log web1 --disk vda=/logs/vda.log --disk vdb=/logs/vdb.log`,
    )
    .action(async (host: string, options: { disk: DiskPath[] }, command: Command) => {
      const context = contextOf(io, command);
      const request = { host, disks: options.disk };
      const imported = await withInventory(context, inventory => inventory.importLogs(request));
      context.print(imported, ({ snapshot, epoch, checkpoints, markers, disks, warnings }) =>
        [
          `Registered epoch ${epoch} of ${host} (snapshot ${snapshot}): ${checkpoints} checkpoints, ${markers.length} of them named.`,
          renderTable(
            [{ title: 'disk' }, { title: 'records', align: 'right' }, { title: 'journal' }],
            disks.map(({ disk, records, path }) => [disk, String(records), path]),
            'It has no disks.',
          ),
          ...warnings.map(warning => `Warning: ${warning}.`),
        ].join('\n'),
      );
    });
}
