/** The parts of Offsite that read what others wrote. */
import type { Target } from './campaign.ts';

const OPENERS = {
  qcow2: async () => (await import('./images/target.ts')).openImageTarget(),
  frames: async () => (await import('./frames/target.ts')).openFrameTarget(),
  receiver: async () => (await import('./receiver/target.ts')).openReceiverTarget(),
  sender: async () => (await import('./sender/target.ts')).openSenderTarget(),
  journals: async () => (await import('./journals/target.ts')).openJournalTarget(),
  files: async () => (await import('./files/target.ts')).openFileTarget(),
} satisfies Record<string, () => Promise<Target>>;

export type TargetName = keyof typeof OPENERS;
export const TARGET_NAMES = Object.keys(OPENERS) as TargetName[];

export const isTargetName = (name: string): name is TargetName =>
  (TARGET_NAMES as readonly string[]).includes(name);

export const openTarget = (name: TargetName): Promise<Target> => OPENERS[name]();
