/** The Temporal SDK's one runtime of this process: what it logs becomes our lines, what it measures is read from it. */
import { createServer } from 'node:net';
import { IllegalStateError } from '@temporalio/common';
import { DefaultLogger, makeTelemetryFilterString, Runtime } from '@temporalio/worker';
import type { Log } from '../lib/log.ts';

/** The first is told by our own interceptor, with the code and the hint; the second is meant to be so. */
const NOT_TOLD = new Set(['Activity failed', 'No workflows registered, not polling for workflow tasks']);
const READ_WITHIN_MS = 2_000;

/** Of the runtime that runs now; the SDK ends it with its last connection. Null when it measures nothing. */
let exporterPort: number | null = null;

/**
 * Installs the runtime unless it runs already; the first caller of a process decides what it logs to. To be called
 * before each attempt to connect: one that fails ends the runtime.
 * @param options.metrics whether the SDK measures; it then serves them at a free loopback port of its own
 */
export async function installTemporalRuntime(log: Log, options: { metrics: boolean }): Promise<void> {
  const port = options.metrics ? await freePort() : null;
  try {
    Runtime.install({
      shutdownSignals: [],
      logger: bridgeTo(log),
      telemetryOptions: {
        logging: { forward: {}, filter: makeTelemetryFilterString({ core: 'WARN', other: 'ERROR' }) },
        ...(port !== null && { metrics: { prometheus: exporterAt(port) } }),
      },
    });
    exporterPort = port;
  } catch (error) {
    if (!(error instanceof IllegalStateError)) throw error;
  }
}

/** The SDK's metrics in Prometheus' text format; empty when there are none, or while it does not answer. */
export async function readTemporalMetrics(): Promise<string> {
  if (exporterPort === null) return '';
  try {
    const signal = AbortSignal.timeout(READ_WITHIN_MS);
    const answer = await fetch(`http://127.0.0.1:${exporterPort}/metrics`, { signal });
    return answer.ok ? await answer.text() : '';
  } catch {
    return '';
  }
}

/** As Prometheus wants names and units. */
const exporterAt = (port: number) => ({
  bindAddress: `127.0.0.1:${port}`,
  countersTotalSuffix: true,
  unitSuffix: true,
  useSecondsForDurations: true,
});

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(0, '127.0.0.1', resolve);
  });
  const address = server.address();
  await new Promise<void>(resolve => server.close(() => resolve()));
  if (address === null || typeof address === 'string') throw new Error('a TCP server has a port');
  return address.port;
}

function bridgeTo(log: Log): DefaultLogger {
  return new DefaultLogger('WARN', ({ level, message, meta }) => {
    if (NOT_TOLD.has(message)) return;
    const fields = { temporal: briefly(meta ?? {}) };
    if (level === 'ERROR') log.error(fields, oneLine(message));
    else log.warn(fields, oneLine(message));
  });
}

/** What a line has room for: names and numbers, and of errors their words. */
function briefly(meta: object): Record<string, unknown> {
  const brief: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(meta)) {
    if (value instanceof Error) brief[name] = oneLine(value.message);
    else if (value !== null && ['string', 'number', 'boolean'].includes(typeof value)) brief[name] = value;
  }
  return brief;
}

/** Stacks, where the SDK puts them into the message, begin at the second line. */
const oneLine = (text: string): string => text.split('\n', 1)[0] ?? '';
