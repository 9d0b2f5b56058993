/**
 * What idle schedules cost a replica site's worker in memory:
 *   node bench/schedules.ts [SCHEDULES]
 * One worker process, built, against a Temporal dev server and a PostgreSQL of its own. Prints its resident memory without
 * a schedule, with all of them in its cache, and with a cache of a tenth of them after each was asked once.
 */
import { randomUUID } from 'node:crypto';
import { mkdtempSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { writeConfig } from '../src/config/write-config.ts';
import { CONTRACT_VERSION } from '../src/contract/names.ts';
import type { ScheduleSettings } from '../src/contract/schedule.ts';
import { chooseFreePorts } from '../src/dev/ports.ts';
import { postgresUrl } from '../src/dev/postgres-server.ts';
import { startSupervisor } from '../src/dev/supervisor.ts';
import { findTemporalCli } from '../src/dev/temporal-cli.ts';
import { packageRoot } from '../src/lib/package-root.ts';
import { createOrchestrator } from '../src/orchestration/temporal-orchestrator.ts';

const MIB = 1024 * 1024;
const AT_ONCE = 8;
/** A heap that has just been filled is larger than what it holds: it is looked at when nothing has happened for so long. */
const REST_MS = 20_000;
const SAMPLES = 5;
const SETTINGS: ScheduleSettings = {
  type: 'interval',
  everyMs: 3_600_000,
  cron: null,
  timeZone: null,
  rpoMs: null,
  bandwidthBytesPerSecond: null,
};

const count = Number(process.argv[2] ?? 300);
const names = Array.from({ length: count }, (_, index) => `host-${index + 1}`);
const cli = await findTemporalCli({ onProgress: text => console.error(text) });
const dataDir = mkdtempSync(join(tmpdir(), 'offsite-bench-'));
const [postgresPort = 0, grpcPort = 0, httpPort = 0, dataPort = 0] = await chooseFreePorts(4);
const supervisor = await startSupervisor({
  dataDir,
  removeDataDirAtEnd: true,
  services: [
    { kind: 'postgres', name: 'postgres', port: postgresPort, databases: ['site_b'] },
    {
      ...{ kind: 'temporal', name: 'temporal', cliPath: cli.path, grpcPort, httpPort, uiPort: null },
      persistent: true,
    },
  ],
});
const temporal = { address: `127.0.0.1:${grpcPort}` };
const configPath = join(dataDir, 'site-b.yaml');
const configure = (maxCachedWorkflows?: number): Promise<void> =>
  writeConfig(configPath, {
    site: 'b',
    node: 'b1',
    dataDir: join(dataDir, 'site-b'),
    database: { url: postgresUrl(dataDir, postgresPort, 'site_b') },
    temporal,
    replica: {
      listen: `127.0.0.1:${dataPort}`,
      directory: join(dataDir, 'replicas'),
      ...(maxCachedWorkflows !== undefined && { maxCachedWorkflows }),
    },
  });
const orchestrator = createOrchestrator({ temporal });

try {
  await configure();
  await supervisor.start([
    {
      kind: 'process',
      name: 'worker-b',
      command: process.execPath,
      args: [join(packageRoot(), 'dist', 'worker.js'), '--config', configPath],
    },
  ]);
  await sleep(REST_MS);
  const none = await memoryBytes();
  print('no schedule', none, none);
  await forAll(async name => {
    const spec = { uuid: randomUUID(), name, replicaSite: 'b', sourceSite: 'a', host: name };
    const started = await orchestrator.startSchedule(
      { contractVersion: CONTRACT_VERSION, ...spec },
      SETTINGS,
      { paused: true },
    );
    if (!started.registered) throw new Error(`schedule ${name} was not registered`);
  });
  print(`${count} schedules, all cached`, await memoryBytes(), none);
  const fewer = Math.max(1, Math.floor(count / 10));
  await configure(fewer);
  await supervisor.restart('worker-b');
  await askAll();
  print(`${count} schedules, maxCachedWorkflows: ${fewer}`, await memoryBytes(), none);
} finally {
  await orchestrator.close();
  await supervisor.stop();
}

async function askAll(): Promise<void> {
  await forAll(async name => {
    for (;;) {
      const { reachable } = await orchestrator.status({ replicaSite: 'b', name });
      if (reachable) return;
      await sleep(1_000);
    }
  });
}

async function forAll(work: (name: string) => Promise<void>): Promise<void> {
  const left = [...names];
  await Promise.all(
    Array.from({ length: AT_ONCE }, async () => {
      for (let name = left.shift(); name !== undefined; name = left.shift()) await work(name);
    }),
  );
}

/** The resident memory of the worker at rest: the middle of a few looks. */
async function memoryBytes(): Promise<number> {
  const found: number[] = [];
  for (let sample = 0; sample < SAMPLES; sample += 1) {
    await sleep(REST_MS / SAMPLES);
    const status = readFileSync(`/proc/${supervisor.status()['worker-b']}/status`, 'utf8');
    found.push(Number(/^VmRSS:\s+(\d+) kB/m.exec(status)?.[1]) * 1024);
  }
  return found.toSorted((left, right) => left - right)[Math.floor(SAMPLES / 2)] ?? Number.NaN;
}

function print(what: string, bytes: number, baseBytes: number): void {
  process.stdout.write(
    `${what.padEnd(46)} ${(bytes / MIB).toFixed(0).padStart(5)} MiB  ×${(bytes / baseBytes).toFixed(2)}\n`,
  );
}
