/** One PostgreSQL and one Temporal server for all tests of a run. */
import { execFileSync } from 'node:child_process';
import { chmodSync, mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestProject } from 'vitest/node';
import { chooseFreePorts } from '../../src/dev/ports.ts';
import { postgresUrl } from '../../src/dev/postgres-server.ts';
import { startSupervisor } from '../../src/dev/supervisor.ts';
import { findTemporalCli } from '../../src/dev/temporal-cli.ts';

declare module 'vitest' {
  interface ProvidedContext {
    /** The database `postgres` as superuser. Tests make databases of their own. */
    postgresUrl: string;
    /** host:port of a Temporal dev server with the namespace `default`, in memory, without a Web UI. */
    temporalAddress: string;
    /** The Temporal command line that this machine has. */
    temporalCliPath: string;
  }
}

/** Starts both; they end with this process, also when it is killed. @returns what stops them */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  requireQemuImg();
  const cli = await findTemporalCli({ onProgress: text => console.error(text) });
  const [postgresPort = 0, grpcPort = 0, httpPort = 0] = await chooseFreePorts(3);
  const dataDir = mkdtempSync(join(tmpdir(), 'offsite-test-'));
  // The user of PostgreSQL passes through.
  chmodSync(dataDir, 0o711);
  const supervisor = await startSupervisor({
    dataDir,
    removeDataDirAtEnd: true,
    services: [
      { kind: 'postgres', name: 'postgres', port: postgresPort, databases: [], fsync: false },
      {
        kind: 'temporal',
        name: 'temporal',
        cliPath: cli.path,
        grpcPort,
        httpPort,
        uiPort: null,
        persistent: false,
      },
    ],
  });
  project.provide('postgresUrl', postgresUrl(dataDir, postgresPort));
  project.provide('temporalAddress', `127.0.0.1:${grpcPort}`);
  project.provide('temporalCliPath', cli.path);
  return () => supervisor.stop();
}

/** Nothing is skipped without QEMU's tools: the run ends at once, with what to do. */
function requireQemuImg(): void {
  try {
    execFileSync('qemu-img', ['--version'], { stdio: 'ignore' });
  } catch {
    console.error('The tests need qemu-img and qemu-io: apt-get install -y qemu-utils');
    process.exit(1);
  }
}
