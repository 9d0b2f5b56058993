import { type Command, Option } from 'commander';
import type { ScheduleSettings } from '../../contract/schedule.ts';
import { mergedSettings } from '../../domain/schedule-requests.ts';
import { settingsFaults } from '../../domain/settings.ts';
import { durationArgument, identArgument, rateArgument, textArgument, textsArgument } from '../arguments.ts';
import type { CliIo } from '../cli-io.ts';
import { contextOf } from '../command-context.ts';
import { settingsText } from '../render/schedule.ts';
import { UsageError } from '../usage-error.ts';
import { siteOption } from './schedule-create.ts';
import { requestJson } from './schedule-requests.ts';
import { NAME_HELP, type SiteChoice, withSchedule } from './with-schedule.ts';

/** False where `--no-…` takes the setting away. */
interface UpdateOptions extends SiteChoice {
  readonly every?: number;
  readonly cron?: string;
  readonly continuous?: true;
  readonly tz?: string | false;
  readonly notBetween?: readonly string[] | false;
  readonly rpo?: number | false;
  readonly bandwidth?: number | false;
}

/** `offsite schedule update`. */
export function addScheduleUpdate(schedule: Command, io: CliIo): void {
  schedule
    .command('update')
    .argument('<name>', NAME_HELP, identArgument)
    .description("change a schedule's settings; what is not named stays as it is")
    .addOption(siteOption())
    .addOption(
      new Option('--every <time>', 'run at this interval from now on')
        .argParser(durationArgument)
        .conflicts(['cron', 'continuous']),
    )
    .addOption(
      new Option('--cron <expression>', 'run at these times from now on')
        .argParser(textArgument)
        .conflicts(['continuous']),
    )
    .option('--continuous', 'follow the host all the time from now on')
    .option('--tz <zone>', 'the time zone of --cron and --not-between', textArgument)
    .option('--no-tz', 'UTC')
    .option(
      '--not-between <from-to>',
      'no traffic in these hours, instead of others; repeatable',
      hoursArgument,
    )
    .option('--no-not-between', 'no blackout hours any more')
    .option('--rpo <time>', 'how much may be lost', durationArgument)
    .option('--no-rpo', 'no RPO any more')
    .option('--bandwidth <rate>', 'send no faster than this, such as 50MiB/s', rateArgument)
    .option('--no-bandwidth', 'no limit any more')
    .addHelpText(
      'after',
      `
A new rate reaches a transfer that runs; another rhythm plans the next run anew. Settings that may not be are refused
with the reason. The same update again changes nothing.

Examples:
  $ offsite schedule update web1 --every 30m
  $ offsite schedule update web1 --cron '30 2 * * *' --tz Europe/Berlin --no-rpo
  $ offsite schedule update web1 --bandwidth 20MiB/s
  $ offsite schedule update web1 --not-between 08:00-12:00 --not-between 13:00-18:00`,
    )
    .action(async (name: string, options: UpdateOptions, command: Command) => {
      const settings = changeOf(options);
      const context = contextOf(io, command);
      const answered = await withSchedule(context, name, options, (orchestrator, ref) =>
        orchestrator.request(ref, { kind: 'updateSettings', settings }),
      );
      context.print(requestJson(answered, io.nowMs()), json => {
        const now = settingsText(json) ?? 'as you said';
        return json.reason === null
          ? `Changed schedule '${name}': it runs ${now}.`
          : `Nothing to change: schedule '${name}' runs ${now} already.`;
      });
    });
}

/** After `--no-not-between` there are no earlier ones. */
const hoursArgument = (text: string, earlier?: readonly string[] | false): readonly string[] =>
  textsArgument(text, earlier || []);

/** Any valid settings: what is wrong with a change can then be told before it is sent. */
const SOME_SETTINGS: ScheduleSettings = {
  type: 'interval',
  everyMs: 3_600_000,
  cron: null,
  timeZone: null,
  rpoMs: null,
  bandwidthBytesPerSecond: null,
};

/** @throws {UsageError} */
function changeOf(options: UpdateOptions): Partial<ScheduleSettings> {
  const { every, cron, continuous, tz, notBetween, rpo, bandwidth } = options;
  const change: Partial<ScheduleSettings> = {
    ...(every === undefined ? {} : { everyMs: every }),
    ...(cron === undefined ? {} : { cron }),
    ...(continuous === undefined ? {} : { type: 'continuous' as const }),
    ...(tz === undefined ? {} : { timeZone: tz || null }),
    ...(notBetween === undefined ? {} : { notBetween: notBetween || [] }),
    ...(rpo === undefined ? {} : { rpoMs: rpo || null }),
    ...(bandwidth === undefined ? {} : { bandwidthBytesPerSecond: bandwidth || null }),
  };
  if (Object.keys(change).length === 0) {
    throw new UsageError(
      'it is not said what to change',
      'Such as --every 30m, --no-rpo or --bandwidth 20MiB/s.',
    );
  }
  const [fault] = settingsFaults(mergedSettings(SOME_SETTINGS, change));
  if (fault !== undefined) throw new UsageError(fault);
  return change;
}
