import { randomUUID } from 'node:crypto';
import { type Command, Option } from 'commander';
import { CONTRACT_VERSION } from '../../contract/names.ts';
import type { ScheduleSettings, ScheduleSpec } from '../../contract/schedule.ts';
import { OffsiteError } from '../../domain/errors.ts';
import { settingsFaults, specFaults } from '../../domain/settings.ts';
import { durationArgument, identArgument, rateArgument, siteArgument, textArgument } from '../arguments.ts';
import type { CliIo } from '../cli-io.ts';
import { contextOf } from '../command-context.ts';
import { renderSchedule } from '../render/schedule.ts';
import { scheduleJson } from '../schedule-json.ts';
import { openOrchestrator, using } from '../services.ts';
import { UsageError } from '../usage-error.ts';

interface CreateOptions {
  readonly site?: string;
  readonly source: string;
  readonly host: string;
  readonly every?: number;
  readonly cron?: string;
  readonly tz?: string;
  readonly continuous?: boolean;
  readonly rpo?: number;
  readonly bandwidth?: number;
  readonly disabled?: boolean;
}

/** `offsite schedule create`. */
export function addScheduleCreate(schedule: Command, io: CliIo): void {
  schedule
    .command('create')
    .argument('<name>', 'the name of the schedule, one a replica site', identArgument)
    .description('start a schedule; the same command again finds it and changes nothing')
    .addOption(siteOption())
    .requiredOption('--source <site>', 'the site that has the host', siteArgument)
    .requiredOption('--host <ident>', 'the host to replicate', identArgument)
    .addOption(
      new Option('--every <time>', 'the time between two runs, such as 15m or 1h30m')
        .argParser(durationArgument)
        .conflicts(['cron', 'continuous', 'tz']),
    )
    .addOption(
      new Option('--cron <expression>', 'run at these times, with --tz')
        .argParser(textArgument)
        .conflicts(['continuous']),
    )
    .addOption(
      new Option('--tz <zone>', 'the time zone of --cron, such as Europe/Berlin').argParser(textArgument),
    )
    .option('--continuous', 'follow the host all the time')
    .option('--rpo <time>', 'how much may be lost, such as 5m; shown when it is not met', durationArgument)
    .option('--bandwidth <rate>', 'send no faster than this, such as 50MiB/s', rateArgument)
    .option('--disabled', 'create it paused')
    .addHelpText(
      'after',
      `
The first run is due at once. This version runs schedules with --every; --cron and --continuous are refused.

Examples:
  $ offsite schedule create web1 --source a --host web1 --every 15m
  $ offsite schedule create db1 --source a --host db1 --every 1h --rpo 2h --bandwidth 50MiB/s --disabled`,
    )
    .action(async (name: string, options: CreateOptions, command: Command) => {
      const settings = settingsOf(options);
      const context = contextOf(io, command);
      const config = await context.config();
      const spec: ScheduleSpec = {
        contractVersion: CONTRACT_VERSION,
        uuid: randomUUID(),
        name,
        replicaSite: options.site ?? config.site,
        sourceSite: options.source,
        host: options.host,
      };
      const [fault] = specFaults(spec);
      if (fault !== undefined)
        throw new UsageError(fault, "--site names the replica site (default: the configuration's).");
      const result = await using(openOrchestrator(config), async orchestrator => {
        const { created, registered, view } = await orchestrator.startSchedule(spec, settings, {
          paused: options.disabled === true,
        });
        // What keeps it from being registered is among what it waits for.
        const progress = registered ? null : await orchestrator.progress(view.ref);
        return { ...scheduleJson(view, progress, io.nowMs()), created, registered };
      });
      context.print(result, json =>
        [
          json.created
            ? `Created schedule '${name}'.`
            : `Schedule '${name}' exists already with these settings.`,
          ...(json.registered ? [] : ['It is not registered at its site yet; that happens by itself.']),
          renderSchedule(json, io.nowMs()),
        ].join('\n'),
      );
    });
}

/** `--site`, the replica site, for every command about schedules. */
export const siteOption = (): Option =>
  new Option('--site <site>', "the replica site (default: the configuration's site)").argParser(siteArgument);

/** @throws {UsageError} {@link OffsiteError} `NotSupported` for what this version cannot run */
function settingsOf(options: CreateOptions): ScheduleSettings {
  const { every, cron, tz, continuous, rpo, bandwidth } = options;
  if (every === undefined && cron === undefined && continuous !== true) {
    throw new UsageError('it is not said when to run', 'Give one of --every, --cron or --continuous.');
  }
  if ((cron === undefined) !== (tz === undefined)) {
    throw new UsageError('--cron and --tz go together', "Such as --cron '0 2 * * *' --tz Europe/Berlin.");
  }
  if (cron !== undefined || continuous === true) {
    const what = cron === undefined ? '--continuous' : '--cron';
    throw new OffsiteError(
      'NotSupported',
      `${what} is not supported by this version`,
      'Use --every for now.',
    );
  }
  const settings: ScheduleSettings = {
    type: 'interval',
    everyMs: every ?? null,
    cron: null,
    timeZone: null,
    rpoMs: rpo ?? null,
    bandwidthBytesPerSecond: bandwidth ?? null,
  };
  const [fault] = settingsFaults(settings);
  if (fault !== undefined) throw new UsageError(fault);
  return settings;
}
