import type { Command } from 'commander';
import { formatSize } from '../../lib/sizes.ts';
import type { CliIo } from '../cli-io.ts';
import { contextOf } from '../command-context.ts';
import type { SourceSpace } from '../ports.ts';
import { renderTable } from '../render/table.ts';
import { renderSpan } from '../render/times.ts';
import { loadSiteServices, using } from '../services.ts';

/** Adds `offsite source space` to `source`. */
export function addSourceSpaceCommand(source: Command, io: CliIo): void {
  source
    .command('space')
    .description(
      'show what is free below the image folders, and which schedules keep snapshots from deletion',
    )
    .addHelpText(
      'after',
      `
With source.guard in the configuration a folder that runs low shows here, in the metrics, and as a warning of every
schedule that asks meanwhile.

Example:
  $ offsite source space`,
    )
    .action(async (_options: object, command: Command) => {
      const context = contextOf(io, command);
      const config = await context.config();
      const { openSourceSpaceService } = await loadSiteServices();
      context.print(await using(openSourceSpaceService(config), service => service.space()), spaceText);
    });
}

function spaceText({ folders, releaseIdleAfterMs, schedules }: SourceSpace): string {
  const folderTable = renderTable(
    [
      { title: 'folder' },
      { title: 'free', align: 'right' },
      { title: 'of', align: 'right' },
      { title: 'low below', align: 'right' },
      { title: '' },
    ],
    folders.map(({ folder, freeBytes, sizeBytes, freeBelowBytes, isLow }) => [
      folder,
      formatSize(freeBytes),
      formatSize(sizeBytes),
      freeBelowBytes === null ? '-' : formatSize(freeBelowBytes),
      isLow ? 'LOW' : '',
    ]),
    'No image folder can be looked at.',
  );
  const scheduleTable = renderTable(
    [
      { title: 'schedule' },
      { title: 'of site' },
      { title: 'locks', align: 'right' },
      { title: 'oldest since' },
      { title: 'silent for', align: 'right' },
      { title: '' },
    ],
    schedules.map(({ scheduleUuid, replicaSite, locks, oldestLockedAt, silentMs, isSending }) => [
      scheduleUuid,
      replicaSite ?? '-',
      String(locks),
      oldestLockedAt,
      renderSpan(silentMs),
      isSending ? 'is being sent' : '',
    ]),
    'No schedule locks anything.',
  );
  const rule =
    releaseIdleAfterMs === null
      ? 'The guard releases nothing by itself.'
      : `While space is low, the guard releases the locks of schedules that were silent for ${renderSpan(releaseIdleAfterMs)}.`;
  return [folderTable, '', scheduleTable, '', rule].join('\n');
}
