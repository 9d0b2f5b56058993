/**
 * The supervisor's own process. It leads a session of its own, so that Ctrl-C in the terminal reaches it only
 * by way of its parent, and it ends all that it started when it is told to, on SIGTERM and SIGINT, and when
 * the IPC channel to its parent closes, which happens even when the parent is killed by SIGKILL.
 */
import { OffsiteError } from '../domain/errors.ts';
import { removeDataDir } from './postgres-place.ts';
import { DataDirInUseError, type DataDirLock, lockDataDir } from './supervisor-lock.ts';
import type { SupervisorReply, SupervisorRequest, SupervisorSettings } from './supervisor-messages.ts';
import { ServiceGroup } from './supervisor-services.ts';
import { endLeftovers } from './supervisor-state.ts';

let settings: SupervisorSettings | null = null;
let lock: DataDirLock | null = null;
let group: ServiceGroup | null = null;
let ending: Promise<void> | null = null;

async function open(wanted: SupervisorSettings): Promise<void> {
  lock = lockDataDir(wanted.dataDir);
  settings = wanted;
  await endLeftovers(wanted.dataDir);
  group = new ServiceGroup(wanted.dataDir);
}

async function endAll(): Promise<void> {
  await group?.stop();
  lock?.release();
  if (settings?.removeDataDirAtEnd) removeDataDir(settings.dataDir);
}

function end(): Promise<void> {
  ending ??= endAll();
  return ending;
}

async function handle(request: SupervisorRequest): Promise<void> {
  switch (request.type) {
    case 'open':
      return open(request.settings);
    case 'start':
      if (group === null || ending !== null) throw new OffsiteError('Stopping', 'the supervisor is stopping');
      return group.start(request.services);
    case 'restart':
      if (group === null || ending !== null) throw new OffsiteError('Stopping', 'the supervisor is stopping');
      return group.restart(request.name);
    case 'stop':
      return end();
  }
}

function describe(error: unknown): SupervisorReply['error'] {
  const pid = error instanceof DataDirInUseError ? error.pid : null;
  if (error instanceof OffsiteError)
    return { code: error.code, message: error.message, hint: error.hint, pid };
  return { code: 'Unexpected', message: (error as Error).message, hint: null, pid };
}

const endAndExit = (): void => {
  end().then(
    () => process.exit(0),
    error => {
      console.error(error);
      process.exit(1);
    },
  );
};

process.on('message', (request: SupervisorRequest) => {
  const reply = (error: SupervisorReply['error']): void => {
    const last = request.type === 'stop' || (request.type === 'open' && error !== null);
    if (process.connected) process.send?.({ id: request.id, error }, () => last && process.exit(0));
    else if (last) process.exit(0);
  };
  handle(request).then(
    () => reply(null),
    error => reply(describe(error)),
  );
});
process.on('disconnect', endAndExit);
process.on('SIGTERM', endAndExit);
process.on('SIGINT', endAndExit);
process.on('SIGHUP', endAndExit);
