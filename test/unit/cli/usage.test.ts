import { describe, expect, it } from 'vitest';
import type { CliIo } from '../../../src/cli/cli-io.ts';
import { runCli } from '../../../src/cli/run-cli.ts';

async function run(...args: string[]): Promise<{ code: number; out: string; err: string }> {
  let out = '';
  let err = '';
  const io: CliIo = {
    out: text => {
      out += text;
    },
    err: text => {
      err += text;
    },
    isTerminal: false,
    columns: () => 100,
    rows: () => 24,
    nowMs: () => 0,
    stopSignal: () => new AbortController().signal,
  };
  const code = await runCli(args, io);
  return { code, out, err };
}

const CREATE = ['schedule', 'create', 'web1', '--source', 'a', '--host', 'web1'];

describe('bad usage ends with 2 and one line that says why', () => {
  it.each<[string[], RegExp]>([
    [['--jsn', 'source', 'list'], /^offsite: unknown option '--jsn'\. Did you mean --json\?\n$/],
    [['schedule', 'crate'], /unknown command 'crate'\. Did you mean create\?/],
    [['schedule', 'show'], /missing required argument 'name'/],
    [['schedule', 'show', ''], /argument value '' is invalid for argument 'name'\. It must be 1 to 64/],
    [['schedule', 'show', '../x'], /'\.\.\/x' is invalid/],
    [['schedule', 'show', 'a b'], /'a b' is invalid/],
    [['schedule', 'pause', 'x\ny'], /'x\\ny' is invalid/],
    [['schedule', 'list', 'x'], /too many arguments/],
    [[...CREATE, '--every', '15'], /'15' has no unit: write it like/],
    [[...CREATE, '--every', '500ms'], /'ms' in '500ms' is no unit of time/],
    [[...CREATE, '--every', '400d'], /longer than 366 days/],
    [[...CREATE, '--every', '15m', '--bandwidth', 'fast'], /'fast' is no rate/],
    [[...CREATE, '--every', '15m', '--rpo', '0s'], /no time at all/],
    [[...CREATE, '--every', '15m', '--continuous'], /cannot be used with/],
    [[...CREATE, '--every', '15m', '--cron', '0 2 * * *', '--tz', 'UTC'], /cannot be used with/],
    [[...CREATE, '--cron', '0 2 * * *', '--continuous'], /cannot be used with/],
    [[...CREATE, '--cron', '0 2 * * *'], /--cron needs --tz/],
    [[...CREATE, '--every', '15m', '--tz', 'UTC'], /--tz is for --cron and --not-between/],
    [[...CREATE, '--cron', '0 2 31 2 *', '--tz', 'UTC'], /a day that never comes/],
    [[...CREATE, '--cron', '0 2 * *', '--tz', 'UTC'], /five fields are needed/],
    [[...CREATE, '--cron', '0 2 * * *', '--tz', 'Europe/Bonn'], /"Europe\/Bonn" is not known/],
    [[...CREATE, '--every', '15m', '--not-between', '8-18'], /"8-18" is not one: write it as 08:00-18:00/],
    [[...CREATE, '--every', '15m', '--not-between', '00:00-24:00'], /is the whole day: pause the schedule/],
    [
      [...CREATE, '--every', '15m', '--not-between', '00:00-12:00', '--not-between', '12:00-24:00'],
      /leave no minute of the day/,
    ],
    [[...CREATE], /not said when to run\. Give one of --every, --cron or --continuous\./],
    [[...CREATE, '--every', '15m', '--site', 'B_1'], /small letters/],
    [['schedule', 'create', 'x', '--source', 'a', '--every', '15m'], /required option '--host <ident>'/],
    [['nonsense'], /unknown command 'nonsense'\. 'offsite --help' lists the commands\./],
    [['replica', 'recover'], /'offsite replica recover --help' shows how it is used\./],
    [['schedule', 'update', 'x'], /not said what to change\. Such as --every 30m/],
    [['schedule', 'update', 'x', '--every', '1h', '--cron', '0 2 * * *'], /cannot be used with/],
    [['schedule', 'update', 'x', '--continuous', '--every', '1h'], /cannot be used with/],
    [['schedule', 'update', 'x', '--cron', '0 2 31 2 *'], /a day that never comes/],
    [['schedule', 'update', 'x', '--tz', 'Europe/Bonn'], /"Europe\/Bonn" is not known/],
    [['schedule', 'update', 'x', '--no-not-between', '--not-between', '8-18'], /write it as 08:00-18:00/],
    [['schedule', 'update', 'x', '--host', 'web2'], /unknown option '--host'/],
    [['schedule', 'pause', 'x', '--drain', '--release'], /cannot be used with/],
    [['schedule', 'history', 'x', '--limit', '0'], /must be a number from 1/],
    [['source', 'import', 'h', '--disk', 'vda'], /Write it as NAME=PATH/],
    [['source', 'import', 'h', '--disk', '=p'], /The disk's name is ''/],
    [['source', 'import', 'h', '--disk', 'a/b=p'], /The disk's name is 'a\/b'/],
    [['source', 'import', 'h', '--disk', 'vda='], /There is no path after 'vda='/],
    [['source', 'import', 'h', '--disk', 'vda=p', '--disk', 'vda=q'], /Disk 'vda' is named twice/],
    [['source', 'import', 'h', '--disk', 'vda=p', '--taken-at', 'yesterday'], /ISO 8601/],
    [['source', 'import', 'h', '--disk', 'vda=p', '--taken-at', '2026-11-24T02:00:00'], /with a zone/],
    [['source', 'import', 'h'], /required option '--disk/],
    [['source', 'forget', 'newest'], /It must be a UUID/],
    [['replica', 'recover', 'h'], /required option '--to/],
    [['replica', 'recover', 'h', '--to', ''], /must not be empty/],
    [['replica', 'recover', 'h', '--to', 'd', '--format', 'vmdk'], /Allowed choices are overlay, qcow2, raw/],
    [['dev', '--no-demo', '--once'], /--no-demo and --once contradict/],
    [['schedule', 'list', '--config'], /argument missing/],
  ])('%j', async (args, said) => {
    const { code, out, err } = await run(...args);
    expect(err).toMatch(said);
    expect({ code, out, lines: err.split('\n').length }).toEqual({ code: 2, out: '', lines: 2 });
  });

  it('tells it as an object with --json, before or after the command', async () => {
    for (const args of [
      ['--json', 'schedule', 'show', '..'],
      ['schedule', 'show', '..', '--json'],
    ]) {
      const { code, out, err } = await run(...args);
      expect({ code, out }).toEqual({ code: 2, out: '' });
      expect(JSON.parse(err)).toEqual({
        error: { code: 'BadUsage', message: expect.any(String), hint: expect.stringContaining('1 to 64') },
      });
    }
  });

  it('shows the commands when there is none, and ends with 2', async () => {
    for (const args of [[], ['schedule'], ['--json', 'replica']]) {
      const { code, err } = await run(...args);
      expect(code).toBe(2);
      expect(err).toContain('Commands:');
    }
  });
});

describe('what was asked for ends with 0', () => {
  it.each([['--help'], ['schedule', 'create', '--help'], ['help', 'schedule'], ['--version']])(
    '%s %s',
    async (...args) => {
      const { code, out, err } = await run(...args.filter(arg => arg !== undefined));
      expect({ code, err }).toEqual({ code: 0, err: '' });
      expect(out).not.toBe('');
    },
  );
});

describe('failures end with 1', () => {
  it('names a configuration that is not there', async () => {
    const { code, err } = await run('source', 'list', '--config', '/no/such.yaml');
    expect({ code, err }).toEqual({
      code: 1,
      err: 'offsite: cannot read /no/such.yaml: there is no such file. Check --config or OFFSITE_CONFIG.\n',
    });
  });
});
