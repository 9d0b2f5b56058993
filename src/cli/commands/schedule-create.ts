import { randomUUID } from 'node:crypto';
import { type Command, Option } from 'commander';
import { CONTRACT_VERSION } from '../../contract/names.ts';
import type { ScheduleSettings, ScheduleSpec } from '../../contract/schedule.ts';
import { settingsFaults, specFaults } from '../../domain/settings.ts';
import {
  durationArgument,
  identArgument,
  rateArgument,
  siteArgument,
  textArgument,
  textsArgument,
} from '../arguments.ts';
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
  readonly notBetween?: readonly string[];
  readonly continuous?: boolean;
  readonly rpo?: number;
  readonly bandwidth?: number;
  readonly disabled?: boolean;
}

/** `offsite schedule create`. */
export function addScheduleCreate(schedule: Command, io: CliIo): void {
  schedule
    .command('create')
    .argument('<name>', 'the name of the schedule, unique at its replica site', identArgument)
    .description('start a schedule; the same command again finds it and changes nothing')
    .addOption(siteOption())
    .requiredOption('--source <site>', 'the site that has the host (required)', siteArgument)
    .requiredOption('--host <ident>', 'the host to replicate (required)', identArgument)
    .addOption(
      new Option('--every <time>', 'the time between two runs, such as 15m or 1h30m')
        .argParser(durationArgument)
        .conflicts(['cron', 'continuous']),
    )
    .addOption(
      new Option(
        '--cron <expression>',
        'run at these times: minute, hour, day, month and weekday; needs --tz',
      )
        .argParser(textArgument)
        .conflicts(['continuous']),
    )
    .addOption(
      new Option(
        '--tz <zone>',
        'the time zone of --cron and --not-between, such as Europe/Berlin (without it, --not-between is in UTC)',
      ).argParser(textArgument),
    )
    .option(
      '--not-between <from-to>',
      'no traffic in these hours of each day, such as 08:00-18:00; may be repeated and cross midnight',
      textsArgument,
    )
    .option('--continuous', 'follow the host all the time')
    .option('--rpo <time>', 'how much may be lost, such as 5m; shown when it is not met', durationArgument)
    .option('--bandwidth <rate>', 'send no faster than this, such as 50MiB/s', rateArgument)
    .option('--disabled', 'create it paused')
    .addHelpText(
      'after',
      `
With --every the first run is due at once, with --cron at the first such time. A time that the clocks skip runs at
the next valid one, a time that they show twice runs once. What was missed is caught up by one run.
In the hours of --not-between nothing is sent: what is due waits for their end, and a task that runs when they begin
stops, keeps what it has sent, and goes on afterwards. 'schedule run' runs all the same.
With --continuous every host snapshot travels as soon as it is there, one after the other.

Examples:
  $ offsite schedule create web1 --source a --host web1 --every 15m
  $ offsite schedule create db1 --source a --host db1 --every 1h --rpo 2h --bandwidth 50MiB/s --disabled
  $ offsite schedule create db2 --source a --host db2 --cron '30 2 * * MON-FRI' --tz Europe/Berlin
  $ offsite schedule create mail1 --source a --host mail1 --continuous --rpo 10m
  $ offsite schedule create fs1 --source a --host fs1 --every 1h --not-between 08:00-18:00 --tz Europe/Berlin`,
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
      context.print(result, (json, fit) =>
        [
          json.created
            ? `Created schedule '${name}'.`
            : `Schedule '${name}' exists already with these settings.`,
          ...(json.registered ? [] : ['It is not registered at its site yet; that happens by itself.']),
          renderSchedule(json, io.nowMs(), fit),
        ].join('\n'),
      );
    });
}

/** `--site`, the replica site, for every command about schedules. */
export const siteOption = (): Option =>
  new Option('--site <site>', "the replica site (default: the configuration's site)").argParser(siteArgument);

/** @throws {UsageError} */
function settingsOf(options: CreateOptions): ScheduleSettings {
  const { every, cron, tz, notBetween = [], continuous, rpo, bandwidth } = options;
  if (every === undefined && cron === undefined && continuous !== true) {
    throw new UsageError('it is not said when to run', 'Give one of --every, --cron or --continuous.');
  }
  if (cron !== undefined && tz === undefined) {
    throw new UsageError('--cron needs --tz', "Such as --cron '0 2 * * *' --tz Europe/Berlin.");
  }
  if (tz !== undefined && cron === undefined && notBetween.length === 0) {
    throw new UsageError('--tz is for --cron and --not-between', 'Leave it out, or give one of these.');
  }
  const settings: ScheduleSettings = {
    type: continuous === true ? 'continuous' : 'interval',
    everyMs: every ?? null,
    cron: cron ?? null,
    timeZone: tz ?? null,
    ...(notBetween.length === 0 ? {} : { notBetween }),
    rpoMs: rpo ?? null,
    bandwidthBytesPerSecond: bandwidth ?? null,
  };
  const [fault] = settingsFaults(settings);
  if (fault !== undefined) throw new UsageError(fault);
  return settings;
}
