import type { Command } from 'commander';
import { deviceArgument, identArgument, pathArgument, textArgument } from '../arguments.ts';
import type { CliIo } from '../cli-io.ts';
import { contextOf } from '../command-context.ts';
import type { RecorderEvent } from '../ports.ts';
import { loadSiteServices } from '../services.ts';

interface RecordOptions {
  readonly qmp: string;
  readonly agent?: string;
  readonly disk?: readonly { readonly disk: string; readonly name: string }[];
}

/** Adds `offsite source record` and `offsite source mark` to `source`. */
export function addRecorderCommands(source: Command, io: CliIo): void {
  source
    .command('record')
    .argument('<host>', "the host's ident", identArgument)
    .description('record every write of a running machine until stopped (Ctrl-C or SIGTERM)')
    .requiredOption('--qmp <socket>', 'a QMP monitor of its own (required)', pathArgument)
    .option(
      '--agent <socket>',
      "the guest agent's socket: markers are set with frozen filesystems",
      pathArgument,
    )
    .option(
      '--disk <name=device>',
      'a disk to record, by the name of its device or node; repeat it (default: all writable qcow2 disks)',
      deviceArgument,
    )
    .addHelpText(
      'after',
      `
Takes over the machine's disks at one instant: what they hold becomes the frozen base, and from then on each write is
answered to the guest after it is in the journal. The guest stands still for some milliseconds. When the recorder is
stopped, or dies, the guest goes on alone.

Example:
  $ offsite source record web1 --qmp /run/web1/qmp.sock --agent /run/web1/agent.sock`,
    )
    .action(async (host: string, options: RecordOptions, command: Command) => {
      const context = contextOf(io, command);
      const config = await context.config();
      const signal = io.stopSignal();
      const { recordHost } = await loadSiteServices();
      const request = {
        host,
        qmpSocketPath: options.qmp,
        agentSocketPath: options.agent ?? null,
        disks: options.disk ?? [],
      };
      const onEvent = (event: RecorderEvent): void =>
        io.out(context.json ? `${JSON.stringify(event)}\n` : `${eventText(host, event)}\n`);
      await recordHost(config, request, { signal, onEvent });
    });

  source
    .command('mark')
    .argument('<host>', "the host's ident", identArgument)
    .argument('<name>', "the marker's name", textArgument)
    .description('give the present state of a recorded host a name, by which it can be restored')
    .addHelpText('after', '\nExample:\n  $ offsite source mark web1 before-upgrade')
    .action(async (host: string, name: string, _options: object, command: Command) => {
      const context = contextOf(io, command);
      const config = await context.config();
      const { markHost } = await loadSiteServices();
      const marker = await markHost(config, { host, name });
      context.print(
        marker,
        ({ sequence, at }) => `Marked ${host} as '${name}' at ${at} (checkpoint ${sequence}).`,
      );
    });
}

function eventText(host: string, event: RecorderEvent): string {
  switch (event.event) {
    case 'recording':
      return `Recording ${host} (${event.disks.join(', ')}), epoch ${event.epoch}.`;
    case 'ended':
      return `Epoch ${event.epoch} ended: ${event.reason}.`;
    default:
      return `A new epoch is tried in ${event.retryInMs / 1000} s: ${event.reason}.`;
  }
}
