/** Temporal's test server: it skips over the time in which nothing is to be done. */
import { existsSync, mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Connection, type ConnectionOptions } from '@temporalio/client';
import { InternalConnectionOptionsSymbol } from '@temporalio/client/lib/connection.js';
import { chooseFreePorts } from '../../src/dev/ports.ts';
import { startSupervisor } from '../../src/dev/supervisor.ts';

/** Where scripts/fetch-test-server.mjs puts it. */
const JARS = fileURLToPath(new URL('../../.cache/temporal-test-server', import.meta.url));
const MAIN = 'io.temporal.testserver.TestServer';
const READY_WITHIN_MS = 60_000;

export interface TimeSkippingServer {
  readonly address: string;
  nowMs(): Promise<number>;
  /** Lets so much of the server's time pass, with all that falls due in it. */
  pass(durationMs: number): Promise<void>;
  close(): Promise<void>;
}

export async function startTimeSkipping(): Promise<TimeSkippingServer> {
  if (!existsSync(JARS)) throw new Error('run scripts/fetch-test-server.mjs first');
  const [port = 0] = await chooseFreePorts(1);
  const dataDir = mkdtempSync(join(tmpdir(), 'offsite-year-'));
  const supervisor = await startSupervisor({
    dataDir,
    removeDataDirAtEnd: true,
    services: [
      {
        kind: 'process',
        name: 'test-server',
        command: 'java',
        args: ['-Xmx3g', '-cp', join(JARS, '*'), MAIN, String(port)],
      },
    ],
  });
  const address = `127.0.0.1:${port}`;
  const connection = await connect(address);
  const { testService } = connection;
  if (testService === undefined) throw new Error('the client knows no test service');
  return {
    address,
    async nowMs() {
      const { time } = await testService.getCurrentTime({});
      return Number(time?.seconds ?? 0) * 1_000 + Math.floor((time?.nanos ?? 0) / 1e6);
    },
    async pass(durationMs) {
      const seconds = Math.floor(durationMs / 1_000) as unknown as Long;
      const nanos = (durationMs % 1_000) * 1e6;
      await connection.withDeadline(Date.now() + 600_000, () =>
        testService.unlockTimeSkippingWithSleep({ duration: { seconds, nanos } }),
      );
    },
    async close() {
      await connection.close();
      await supervisor.stop();
    },
  };
}

/** The number type of the generated messages, which takes plain numbers too. */
type Long = NonNullable<NonNullable<Parameters<TestSleep>[0]['duration']>['seconds']>;
type TestSleep = NonNullable<Connection['testService']>['unlockTimeSkippingWithSleep'];

async function connect(address: string): Promise<Connection> {
  const options = { address, [InternalConnectionOptionsSymbol]: { supportsTestService: true } };
  const deadlineMs = Date.now() + READY_WITHIN_MS;
  for (;;) {
    try {
      return await Connection.connect(options as ConnectionOptions);
    } catch (error) {
      if (Date.now() > deadlineMs) throw error;
      await new Promise(resolve => setTimeout(resolve, 200));
    }
  }
}
