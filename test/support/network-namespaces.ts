/** Two network namespaces of a test's own, joined by a cable that can be pulled out. Needs root and iproute2. */
import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { promisify } from 'node:util';

const run = promisify(execFile);

export interface JoinedNamespaces {
  /** What runs a command in one of them. */
  readonly prefix: { readonly a: readonly string[]; readonly b: readonly string[] };
  readonly address: { readonly a: string; readonly b: string };
  /** Pulls the cable out or plugs it in: packets vanish, nobody is told. */
  plug(isIn: boolean): Promise<void>;
  /** Bytes that have left a's end of the cable, headers and what was sent again included. */
  sentBytes(): Promise<number>;
  remove(): Promise<void>;
}

/** @throws {Error} that says what is missing, where namespaces cannot be made */
export async function joinNamespaces(): Promise<JoinedNamespaces> {
  const id = randomBytes(3).toString('hex');
  const names = { a: `offa${id}`, b: `offb${id}`, bridge: `offr${id}` };
  const inside = (name: string): string[] => ['ip', 'netns', 'exec', name];
  const ip = async (...args: string[]): Promise<string> => {
    try {
      return (await run('ip', args)).stdout;
    } catch (error) {
      const reason = (error as { stderr?: string }).stderr || String(error);
      throw new Error(
        `this test needs root and iproute2 (apt-get install -y iproute2): ip ${args.join(' ')}: ${reason}`,
      );
    }
  };
  const remove = async (): Promise<void> => {
    // The cables go with the namespaces.
    for (const name of Object.values(names))
      await run('ip', ['netns', 'delete', name]).catch(() => undefined);
  };
  try {
    for (const name of Object.values(names)) await ip('netns', 'add', name);
    // A switch stands between the two: an end sees its own link up while the other cable is out.
    await ip('-n', names.bridge, 'link', 'add', 'switch', 'type', 'bridge');
    await ip('-n', names.bridge, 'link', 'set', 'switch', 'up');
    for (const [end, address] of [
      ['a', '10.213.7.1'],
      ['b', '10.213.7.2'],
    ] as const) {
      await ip(
        '-n',
        names.bridge,
        'link',
        'add',
        `port-${end}`,
        'type',
        'veth',
        'peer',
        'name',
        'cable',
        'netns',
        names[end],
      );
      await ip('-n', names.bridge, 'link', 'set', `port-${end}`, 'master', 'switch', 'up');
      await ip('-n', names[end], 'address', 'add', `${address}/24`, 'dev', 'cable');
      await ip('-n', names[end], 'link', 'set', 'cable', 'up');
      await ip('-n', names[end], 'link', 'set', 'lo', 'up');
    }
  } catch (error) {
    await remove();
    throw error;
  }
  return {
    prefix: { a: inside(names.a), b: inside(names.b) },
    address: { a: '10.213.7.1', b: '10.213.7.2' },
    plug: async isIn => {
      await ip('-n', names.bridge, 'link', 'set', 'port-b', isIn ? 'up' : 'down');
    },
    async sentBytes() {
      const { stdout } = await run('ip', ['-n', names.a, '-s', '-j', 'link', 'show', 'dev', 'cable']);
      const [link] = JSON.parse(stdout) as [{ stats64: { tx: { bytes: number } } }];
      return link.stats64.tx.bytes;
    },
    remove,
  };
}
