import type { Command } from 'commander';
import { fingerprintArgument, siteArgument } from '../arguments.ts';
import type { CliIo } from '../cli-io.ts';
import { contextOf } from '../command-context.ts';
import type { ListedPin } from '../ports.ts';
import { renderTable } from '../render/table.ts';
import { withInventory } from './source-inventory.ts';

const NOT_IN_FORCE = "The configuration's fingerprints take its place: source.replicaSites[].fingerprints.";

/** `offsite source pins|pin|unpin`: whose receivers may have anything from here. */
export function addPinCommands(source: Command, io: CliIo): void {
  source
    .command('pins')
    .description("list the certificates of replica sites' receivers that are accepted")
    .addHelpText('after', '\nExample:\n  $ offsite source pins')
    .action(async (_options: object, command: Command) => {
      const context = contextOf(io, command);
      context.print(await withInventory(context, inventory => inventory.listPins()), renderPins);
    });

  source
    .command('pin')
    .argument('<site>', 'the replica site', siteArgument)
    .argument(
      '<fingerprint>',
      "SHA-256 of the certificate, as the receiver's worker prints it",
      fingerprintArgument,
    )
    .description('accept a certificate of a replica site, beside those that are accepted')
    .addHelpText(
      'after',
      `
A site's first certificate is pinned at its first use. A further node, or one that was set up anew, needs this command.

Example:
  $ offsite source pin b 5d0d4c0f3a0e2b7f9c1d6e8a7b5c4d3e2f1a0b9c8d7e6f5a4b3c2d1e0f9a8b7c`,
    )
    .action(async (replicaSite: string, fingerprint: string, _options: object, command: Command) => {
      const context = contextOf(io, command);
      const pinned = await withInventory(context, inventory => inventory.pin({ replicaSite, fingerprint }));
      context.print(pinned, ({ created, inForce }) =>
        [
          `${created ? 'Pinned' : 'Already pinned:'} ${fingerprint} of site ${replicaSite}.`,
          ...(inForce ? [] : [NOT_IN_FORCE]),
        ].join('\n'),
      );
    });

  source
    .command('unpin')
    .argument('<site>', 'the replica site', siteArgument)
    .description('accept the pinned certificates of a replica site no longer')
    .option('--fingerprint <digits>', 'only this one (default: all of the site)', fingerprintArgument)
    .addHelpText(
      'after',
      `
When none is left, the next certificate that the site shows is pinned. To be sure whose it is, pin it by command first.

Example:
  $ offsite source unpin b --fingerprint 5d0d4c0f3a0e2b7f9c1d6e8a7b5c4d3e2f1a0b9c8d7e6f5a4b3c2d1e0f9a8b7c`,
    )
    .action(async (replicaSite: string, options: { fingerprint?: string }, command: Command) => {
      const context = contextOf(io, command);
      const request = { replicaSite, fingerprint: options.fingerprint ?? null };
      const unpinned = await withInventory(context, inventory => inventory.unpin(request));
      context.print(unpinned, ({ forgotten, left }) =>
        [
          ...forgotten.map(fingerprint => `Unpinned ${fingerprint} of site ${replicaSite}.`),
          ...(left.length === 0 ? ['The next certificate that it shows is pinned.'] : []),
        ].join('\n'),
      );
    });
}

const renderPins = (pins: readonly ListedPin[]): string =>
  renderTable(
    [
      { title: 'site' },
      { title: 'fingerprint' },
      { title: 'pinned by' },
      { title: 'at' },
      { title: 'seen at' },
    ],
    pins.map(({ replicaSite, fingerprint, pinnedBy, pinnedAt, endpoint, inForce }) => [
      replicaSite,
      fingerprint,
      inForce ? pinnedBy : `${pinnedBy}, not in force`,
      pinnedAt ?? '',
      endpoint ?? '',
    ]),
    'Nothing is pinned: the first certificate that each replica site shows will be.',
  );
