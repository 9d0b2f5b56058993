import type { CommandContext } from '../command-context.ts';
import type { SourceInventory } from '../ports.ts';
import { loadSiteServices, using } from '../services.ts';

/** Opens the source site's catalog for one command. */
export async function withInventory<T>(
  context: CommandContext,
  use: (inventory: SourceInventory) => Promise<T>,
): Promise<T> {
  const config = await context.config();
  const { openSourceInventory } = await loadSiteServices();
  return using(openSourceInventory(config), use);
}
