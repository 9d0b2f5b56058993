/** One PostgreSQL and one Temporal server for all tests of a run. */
import { spawnSync } from 'node:child_process';
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
  requireTools();
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

/** Programs that tests run, and the Debian package of each. */
const TOOLS = {
  'qemu-img': 'qemu-utils',
  'qemu-io': 'qemu-utils',
  'fsck.vfat': 'dosfstools',
  mcopy: 'mtools',
  nbdinfo: 'libnbd-bin',
  'qemu-system-x86_64': 'qemu-system-x86',
} as const;

/** Nothing is skipped where a tool is missing: the run ends at once, with what to do. */
function requireTools(): void {
  const missing = Object.entries(TOOLS).filter(
    ([tool]) => spawnSync(tool, ['--version']).error !== undefined,
  );
  if (missing.length === 0) return;
  const tools = missing.map(([tool]) => tool).join(', ');
  const packages = [...new Set(missing.map(([, debianPackage]) => debianPackage))].join(' ');
  console.error(`The tests need ${tools}: apt-get install -y ${packages}`);
  process.exit(1);
}
