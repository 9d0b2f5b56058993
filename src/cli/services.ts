/** Brings what the commands need, loaded only when a command needs it: `--help` stays quick. */
import type { SiteConfig } from '../config/site-config.ts';
import type { Orchestrator } from '../orchestration/orchestrator.ts';
import type { SiteServices } from './ports.ts';

/** @throws {ConfigError} @param path null takes OFFSITE_CONFIG */
export async function loadSiteConfig(path: string | null): Promise<SiteConfig> {
  const { loadConfig } = await import('../config/load-config.ts');
  const config = await loadConfig(path);
  if (process.env.OFFSITE_FAULTS !== undefined) await armForTests(config.site);
  return config;
}

async function armForTests(site: string): Promise<void> {
  const { armFaults } = await import('../lib/fault-injection.ts');
  const plan = armFaults(process.env, site);
  if (plan !== null) process.emitWarning(`FAULT POINTS ARE ARMED by ${plan}: this command fails on purpose`);
}

/** The sites' side; that its types fit the commands' ports is checked here. */
export async function loadSiteServices(): Promise<SiteServices> {
  return import('../sites/cli-services.ts');
}

export const loadDevServices = () => import('../dev/dev-site.ts');

/** Opens what is closed again whether `use` succeeds or not. */
export async function using<T extends { close(): Promise<void> }, R>(
  opening: Promise<T>,
  use: (opened: T) => Promise<R>,
): Promise<R> {
  const opened = await opening;
  try {
    return await use(opened);
  } finally {
    await opened.close();
  }
}

/** Gives an orchestrator for the configuration's Temporal. It connects at its first call. */
export async function openOrchestrator(config: SiteConfig): Promise<Orchestrator> {
  const { createOrchestrator } = await import('../orchestration/temporal-orchestrator.ts');
  return createOrchestrator(config);
}
