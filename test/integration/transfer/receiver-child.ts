/** Starts `receiver-process.ts` and talks with it. */
import { type ChildProcess, fork, spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import type { OpenSession, ReceiverReport, Request, StartReceiver } from './receiver-process.ts';

const PROGRAM = fileURLToPath(new URL('receiver-process.ts', import.meta.url));

export interface ReceiverChild {
  readonly port: number;
  open(session: OpenSession): Promise<void>;
  report(): Promise<ReceiverReport>;
  stop(): Promise<void>;
}

/** @param options.prefix a command to run it by, such as `ip netns exec NAME` */
export async function startReceiverChild(
  start: StartReceiver,
  options: { prefix?: readonly string[] } = {},
): Promise<ReceiverChild> {
  const [command, ...words] = options.prefix ?? [];
  const child: ChildProcess =
    command === undefined
      ? fork(PROGRAM, { serialization: 'json' })
      : spawn(command, [...words, process.execPath, PROGRAM], {
          stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
          serialization: 'json',
        });
  const exited = new Promise<void>(resolve => child.once('exit', () => resolve()));
  let last: Promise<unknown> = Promise.resolve();
  // One question at a time: answers come in order.
  const ask = (request: Request): Promise<ReceiverReport> => {
    const next = last.then(
      () =>
        new Promise<ReceiverReport>((resolve, reject) => {
          const onExit = (): void => reject(new Error('the receiver process ended'));
          child.once('exit', onExit);
          child.once('message', message => {
            child.off('exit', onExit);
            const failure = (message as { error?: string }).error;
            if (failure === undefined) resolve(message as ReceiverReport);
            else reject(new Error(failure));
          });
          child.send(request);
        }),
    );
    last = next.catch(() => undefined);
    return next;
  };
  const { port } = await ask({ start });
  return {
    port,
    open: async session => {
      await ask({ open: session });
    },
    report: () => ask({ report: true }),
    async stop() {
      child.kill('SIGKILL');
      await exited;
    },
  };
}
