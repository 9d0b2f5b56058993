/** The embedded Temporal dev server: how it is started, and how it is seen to be ready. */
import { join } from 'node:path';
import type { Launch, TemporalService } from './supervisor-service.ts';

/** The one namespace of the dev server; it exists as soon as the server is ready. */
export const TEMPORAL_NAMESPACE = 'default';

/**
 * The dev server's defaults poll its queues rarely, which adds 50 ms to each dispatch and up to a second
 * to timers. These make a one-disk task take a fifth of the time.
 */
const DYNAMIC_CONFIG = [
  'history.transferProcessorMaxPollRPS=2000',
  'history.timerProcessorMaxPollRPS=2000',
  'history.timerProcessorMaxTimeShift="1ms"',
];

const SQLITE_PRAGMAS = ['journal_mode=wal', 'synchronous=normal'];

const flags = (name: string, values: readonly string[]): string[] => values.flatMap(value => [name, value]);

/** Tells a supervisor how to run a dev server; with `persistent` its data is DIR/temporal.db. */
export function temporalLaunch(dataDir: string, service: TemporalService): Launch {
  const args = [
    ...['server', 'start-dev', '--ip', '127.0.0.1', '--port', String(service.grpcPort)],
    ...['--http-port', String(service.httpPort), '--namespace', TEMPORAL_NAMESPACE, '--log-level', 'warn'],
    ...(service.uiPort === null ? ['--headless'] : ['--ui-port', String(service.uiPort)]),
    ...flags('--dynamic-config-value', DYNAMIC_CONFIG),
  ];
  if (service.persistent) {
    args.push('--db-filename', join(dataDir, 'temporal.db'), ...flags('--sqlite-pragma', SQLITE_PRAGMAS));
  }
  return {
    name: service.name,
    command: service.cliPath,
    args,
    cwd: dataDir,
    env: process.env,
    stopSignal: 'SIGTERM',
    stopTimeoutMs: 10_000,
    isReady: () => hasNamespace(service.httpPort),
  };
}

/** The server's HTTP API answers for the namespace only once both are there. */
async function hasNamespace(httpPort: number): Promise<boolean> {
  try {
    const url = `http://127.0.0.1:${httpPort}/api/v1/namespaces/${TEMPORAL_NAMESPACE}`;
    const response = await fetch(url, { signal: AbortSignal.timeout(2_000) });
    await response.arrayBuffer();
    return response.ok;
  } catch {
    return false;
  }
}
