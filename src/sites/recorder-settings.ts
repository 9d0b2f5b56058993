/** What a recorder is told by configuration and command line, made ready. */
import { join } from 'node:path';
import type { DiskMapping } from '../capture/recorder/guest-disks.ts';
import type { createEpochRows } from '../catalog/source-epochs.ts';
import type { SiteConfig } from '../config/site-config.ts';
import { OffsiteError } from '../domain/errors.ts';
import { parseDuration } from '../lib/durations.ts';
import type { Log } from '../lib/log.ts';
import { parseSize } from '../lib/sizes.ts';
import { journalDirectoryOf } from './journal-directory.ts';

export interface RecordRequest {
  readonly host: string;
  readonly qmpSocketPath: string;
  readonly agentSocketPath: string | null;
  /** Empty: all disks that are neither removable nor read-only, by their own names. */
  readonly disks: readonly DiskMapping[];
}

export interface RecorderSettings {
  readonly host: string;
  readonly site: string;
  readonly node: string;
  readonly qmpSocketPath: string;
  readonly agentSocketPath: string | null;
  readonly mapping: readonly DiskMapping[];
  readonly imageRoots: readonly string[];
  /** The host's own folder, which has a folder an epoch. */
  readonly directory: string;
  readonly segmentBytes: number;
  readonly limits: { readonly ageMs: number; readonly bytes: number };
  readonly epochs: ReturnType<typeof createEpochRows>;
  readonly log: Log;
}

/** Of the address of a unix socket, without the zero at its end. */
const MAX_SOCKET_PATH_BYTES = 107;

class JournalFolderError extends OffsiteError {
  constructor(directory: string) {
    super(
      'JournalFolderTooLong',
      `${directory}: the name of a socket in this folder would be longer than ${MAX_SOCKET_PATH_BYTES} bytes`,
      'Set source.journals.directory to a folder with a shorter name.',
    );
  }
}

/** Where the journals of a host lie. @throws {OffsiteError} when its name is too long for sockets */
export function hostDirectory(config: SiteConfig, host: string): string {
  const directory = join(journalDirectoryOf(config), host);
  if (Buffer.byteLength(join(directory, 'control.sock')) > MAX_SOCKET_PATH_BYTES) {
    throw new JournalFolderError(directory);
  }
  return directory;
}

export function recorderSettings(
  config: SiteConfig,
  { host, qmpSocketPath, agentSocketPath, disks }: RecordRequest,
  { directory, epochs, log }: Pick<RecorderSettings, 'directory' | 'epochs' | 'log'>,
): RecorderSettings {
  const {
    rollOverAfter = '24h',
    rollOverAt = '64GiB',
    segmentSize = '64MiB',
  } = config.source?.journals ?? {};
  return {
    host,
    site: config.site,
    node: config.node,
    qmpSocketPath,
    agentSocketPath,
    mapping: disks,
    imageRoots: config.source?.imageRoots ?? [],
    directory,
    segmentBytes: parseSize(segmentSize),
    limits: { ageMs: parseDuration(rollOverAfter), bytes: parseSize(rollOverAt) },
    epochs,
    log,
  };
}
