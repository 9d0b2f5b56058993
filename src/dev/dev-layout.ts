/** Two sites on one machine: their folders, ports, configurations and processes. */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { loadConfig } from '../config/load-config.ts';
import type { SiteConfig, SiteConfigFile } from '../config/site-config.ts';
import { writeConfig } from '../config/write-config.ts';
import { choosePorts } from './ports.ts';
import { postgresUrl } from './postgres-server.ts';
import type { ServiceSpec } from './supervisor-service.ts';

const PORT_NAMES = ['postgres', 'temporalGrpc', 'temporalHttp', 'temporalUi', 'receiver'] as const;
export type DevPorts = Record<(typeof PORT_NAMES)[number], number>;

/** The ports of the first start, chosen again where another process has taken one. */
export async function devPorts(dataDir: string): Promise<DevPorts> {
  const file = join(dataDir, 'ports.json');
  const wished = existsSync(file) ? (JSON.parse(readFileSync(file, 'utf8')) as Partial<DevPorts>) : {};
  const ports = await choosePorts(PORT_NAMES, wished);
  mkdirSync(dataDir, { recursive: true });
  writeFileSync(file, `${JSON.stringify(ports, null, 2)}\n`);
  return ports;
}

export const databaseServices = (ports: DevPorts, cliPath: string): readonly ServiceSpec[] => [
  { kind: 'postgres', name: 'postgres', port: ports.postgres, databases: ['site_a', 'site_b'] },
  {
    kind: 'temporal',
    name: 'temporal',
    cliPath,
    grpcPort: ports.temporalGrpc,
    httpPort: ports.temporalHttp,
    uiPort: ports.temporalUi,
    persistent: true,
  },
];

export interface DevSites {
  readonly a: SiteConfig;
  readonly b: SiteConfig;
  readonly aPath: string;
  readonly bPath: string;
  readonly webUiUrl: string;
}

/** Writes DIR/site-a.yaml and DIR/site-b.yaml. The database must have made its password already. */
export async function writeDevConfigs(
  dataDir: string,
  ports: DevPorts,
  imageRoots: readonly string[],
): Promise<DevSites> {
  const webUiUrl = `http://127.0.0.1:${ports.temporalUi}`;
  const receiver = `127.0.0.1:${ports.receiver}`;
  const common = (site: string) => ({
    site,
    node: `${site}1`,
    dataDir: join(dataDir, `site-${site}`),
    database: { url: postgresUrl(dataDir, ports.postgres, `site_${site}`) },
    temporal: { address: `127.0.0.1:${ports.temporalGrpc}` },
    webUiUrl,
  });
  const a: SiteConfigFile = {
    ...common('a'),
    source: {
      imageRoots: [...imageRoots],
      replicaSites: [{ site: 'b', hosts: ['*'], endpoints: [receiver] }],
    },
  };
  const b: SiteConfigFile = { ...common('b'), replica: { listen: receiver } };
  const aPath = join(dataDir, 'site-a.yaml');
  const bPath = join(dataDir, 'site-b.yaml');
  await writeConfig(aPath, a);
  await writeConfig(bPath, b);
  return { a: await loadConfig(aPath), b: await loadConfig(bPath), aPath, bPath, webUiUrl };
}

export const workerServices = ({ aPath, bPath }: DevSites): readonly ServiceSpec[] => {
  const extension = import.meta.url.endsWith('.ts') ? 'ts' : 'js';
  const worker = fileURLToPath(new URL(`../worker.${extension}`, import.meta.url));
  return [
    { kind: 'process', name: 'worker-a', command: process.execPath, args: [worker, '--config', aPath] },
    { kind: 'process', name: 'worker-b', command: process.execPath, args: [worker, '--config', bPath] },
  ];
};
