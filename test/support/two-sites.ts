/** Two whole sites as separate processes, with a TCP proxy on the data line between them. */
import { execFile } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Client, Connection } from '@temporalio/client';
import { inject } from 'vitest';
import { writeConfig } from '../../src/config/write-config.ts';
import { chooseFreePorts } from '../../src/dev/ports.ts';
import { postgresUrl } from '../../src/dev/postgres-server.ts';
import { type Supervisor, startSupervisor } from '../../src/dev/supervisor.ts';
import { startTcpProxy, type TcpProxy } from './tcp-proxy.ts';

const SOURCES = fileURLToPath(new URL('../../src/', import.meta.url));

export interface CliResult {
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** What A's configuration lets out to B; what is left out allows all. */
export interface SourceRule {
  readonly hosts?: string[];
  readonly endpoints?: string[];
  readonly fingerprints?: string[];
}

export interface TwoSites {
  readonly dataDir: string;
  /** Where the test puts its images; the only image root of site a. */
  readonly imageDir: string;
  readonly replicaRoot: string;
  readonly databaseUrl: { readonly a: string; readonly b: string };
  readonly configPath: { readonly a: string; readonly b: string };
  readonly client: Client;
  /** Temporal's Web UI, null unless asked for. */
  readonly webUiUrl: string | null;
  /** Stands between the sites; B advertises it. */
  readonly proxy: TcpProxy;
  /** Where B's receiver itself listens. */
  readonly receiverPort: number;
  readonly supervisor: Supervisor;
  /** Runs the command line as an operator does. */
  cli(site: 'a' | 'b', ...args: string[]): Promise<CliResult>;
  /** As {@link cli} with --json. @throws unless it exits 0 */
  json<T>(site: 'a' | 'b', ...args: string[]): Promise<T>;
  /** Writes A's configuration anew with this rule, and starts its worker anew. */
  allow(rule: SourceRule): Promise<void>;
  /** What a service has written to its log so far. */
  logOf(service: string): string;
  close(): Promise<void>;
}

/** How the sites reach their servers, where it is not as superuser and in plain text. */
export interface Access {
  readonly databaseUrl: { readonly a: string; readonly b: string };
  /** The configurations' `temporal` section. */
  readonly temporal: { readonly address?: string };
  /** Of the workers and of the command line. */
  readonly environment: Readonly<Record<string, string>>;
}

/** Where the servers are, as only the test reaches them. */
export interface Servers {
  readonly dataDir: string;
  readonly databaseUrl: { readonly a: string; readonly b: string };
  readonly temporalAddress: string;
}

export interface TwoSitesOptions {
  readonly replicaRoot?: string;
  readonly rule?: SourceRule;
  readonly webUi?: boolean;
  /** Called when both servers answer, before the sites are configured. */
  readonly prepare?: (servers: Servers) => Promise<Access>;
}

/** Starts PostgreSQL, Temporal and a worker a site, all of this test's own, so that it may kill any of them. */
export async function startTwoSites(options: TwoSitesOptions = {}): Promise<TwoSites> {
  const dataDir = mkdtempSync(join(tmpdir(), 'offsite-e2e-'));
  const imageDir = join(dataDir, 'images');
  mkdirSync(imageDir);
  const replicaRoot = options.replicaRoot ?? join(dataDir, 'replicas');
  const [postgres = 0, grpc = 0, http = 0, receiver = 0, ui = 0] = await chooseFreePorts(5);
  const uiPort = options.webUi === true ? ui : null;
  const proxy = await startTcpProxy({ host: '127.0.0.1', port: receiver });
  const supervisor = await startSupervisor({
    dataDir,
    removeDataDirAtEnd: true,
    services: [
      { kind: 'postgres', name: 'postgres', port: postgres, databases: ['site_a', 'site_b'] },
      {
        kind: 'temporal',
        name: 'temporal',
        cliPath: inject('temporalCliPath'),
        grpcPort: grpc,
        httpPort: http,
        uiPort,
        persistent: true,
      },
    ],
  });
  const databaseUrl = {
    a: postgresUrl(dataDir, postgres, 'site_a'),
    b: postgresUrl(dataDir, postgres, 'site_b'),
  };
  const address = `127.0.0.1:${grpc}`;
  const access = (await options.prepare?.({ dataDir, databaseUrl, temporalAddress: address })) ?? {
    databaseUrl,
    temporal: { address },
    environment: {},
  };
  const configPath = { a: join(dataDir, 'site-a.yaml'), b: join(dataDir, 'site-b.yaml') };
  const common = (site: 'a' | 'b') => ({
    site,
    node: `${site}1`,
    dataDir: join(dataDir, `site-${site}`),
    database: { url: access.databaseUrl[site] },
    temporal: access.temporal,
  });
  const writeSourceConfig = ({ hosts = ['*'], ...rest }: SourceRule) =>
    writeConfig(configPath.a, {
      ...common('a'),
      source: {
        imageRoots: [imageDir],
        replicaSites: [{ site: 'b', hosts, endpoints: [`127.0.0.1:${proxy.port}`], ...rest }],
      },
    });
  await writeSourceConfig(options.rule ?? {});
  await writeConfig(configPath.b, {
    ...common('b'),
    replica: {
      listen: `127.0.0.1:${receiver}`,
      advertise: `127.0.0.1:${proxy.port}`,
      directory: replicaRoot,
    },
  });
  await supervisor.start(
    (['a', 'b'] as const).map(site => ({
      kind: 'process' as const,
      name: `worker-${site}`,
      command: process.execPath,
      args: [join(SOURCES, 'worker.ts'), '--config', configPath[site]],
      env: access.environment,
    })),
  );
  const connection = await Connection.connect({ address });
  const cli = (site: 'a' | 'b', ...args: string[]) =>
    runCli(['--config', configPath[site], ...args], access.environment);
  return {
    dataDir,
    imageDir,
    replicaRoot,
    databaseUrl,
    configPath,
    client: new Client({ connection }),
    webUiUrl: uiPort === null ? null : `http://127.0.0.1:${uiPort}`,
    proxy,
    receiverPort: receiver,
    supervisor,
    cli,
    async json(site, ...args) {
      const result = await cli(site, ...args, '--json');
      if (result.exitCode !== 0) throw new Error(`offsite ${args.join(' ')}: ${result.stderr}`);
      return JSON.parse(result.stdout);
    },
    async allow(rule) {
      await writeSourceConfig(rule);
      await supervisor.restart('worker-a');
    },
    logOf: service => readFileSync(join(dataDir, 'logs', `${service}.log`), 'utf8'),
    async close() {
      await connection.close();
      await supervisor.stop();
      await proxy.close();
    },
  };
}

/** Runs `offsite ARGS` from the sources. */
export function runCli(
  args: readonly string[],
  environment: Readonly<Record<string, string>> = {},
): Promise<CliResult> {
  return new Promise(resolve => {
    execFile(
      process.execPath,
      [join(SOURCES, 'starter.ts'), ...args],
      { timeout: 60_000, env: { ...process.env, ...environment } },
      (error, stdout, stderr) => {
        const exitCode = error === null ? 0 : typeof error.code === 'number' ? error.code : -1;
        resolve({ exitCode, stdout, stderr });
      },
    );
  });
}
