/** What every command finds around it. */
import type { Command } from 'commander';
import type { SiteConfig } from '../config/site-config.ts';
import type { CliIo } from './cli-io.ts';
import { loadSiteConfig } from './services.ts';

export interface GlobalOptions {
  readonly config?: string;
  readonly json?: boolean;
}

/** One run of one command. */
export interface CommandContext {
  readonly io: CliIo;
  readonly json: boolean;
  /** Loads the configuration that `--config` or OFFSITE_CONFIG names. */
  config(): Promise<SiteConfig>;
  /**
   * Prints a result: as JSON, or as the text that `human` makes of it (without a last line end).
   * @param human is given the columns of the terminal that sentences are broken for, null where there is none
   */
  print<T>(result: T, human: (result: T, fit: number | null) => string): void;
}

/** Reads the global options that stand before or after the command. */
export function contextOf(io: CliIo, command: Command): CommandContext {
  const options = command.optsWithGlobals<GlobalOptions>();
  const json = options.json === true;
  return {
    io,
    json,
    config: () => loadSiteConfig(options.config ?? null),
    print(result, human) {
      const text = json
        ? JSON.stringify(result, null, 2)
        : human(result, io.isTerminal ? io.columns() : null);
      if (text !== '') io.out(`${text}\n`);
    },
  };
}
