/** The QMP client against QEMU itself, and against what only looks like it. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { QmpMonitor } from '../../src/capture/qmp/monitor.ts';
import { withMemoryDir } from '../unit/images/replica-fixtures.ts';

/** A QEMU without a machine: a monitor and the block layer. */
async function withQemu(work: (socketPath: string, qemu: ChildProcess) => Promise<void>): Promise<void> {
  await withMemoryDir(async dir => {
    const socketPath = join(dir, 'qmp.sock');
    const args = [
      '-M',
      'none',
      '-nodefaults',
      '-display',
      'none',
      '-qmp',
      `unix:${socketPath},server=on,wait=off`,
    ];
    const qemu = spawn('qemu-system-x86_64', args, { stdio: 'inherit' });
    try {
      await expect.poll(() => canConnect(socketPath), { timeout: 30_000 }).toBe(true);
      await work(socketPath, qemu);
    } finally {
      qemu.kill('SIGKILL');
      if (qemu.exitCode === null && qemu.signalCode === null) await once(qemu, 'exit');
    }
  });
}

const canConnect = (socketPath: string): Promise<boolean> =>
  QmpMonitor.connect(socketPath).then(
    monitor => {
      monitor.close();
      return monitor.closed.then(() => true);
    },
    () => false,
  );

/** Something at a socket that is no QEMU. */
async function withPeer(
  onClient: (socket: Socket) => void,
  work: (socketPath: string) => Promise<void>,
): Promise<void> {
  await withMemoryDir(async dir => {
    const socketPath = join(dir, 'peer.sock');
    const sockets = new Set<Socket>();
    const server: Server = createServer(socket => {
      sockets.add(socket);
      socket.on('error', () => {});
      onClient(socket);
    });
    server.listen(socketPath);
    await once(server, 'listening');
    try {
      await work(socketPath);
    } finally {
      for (const socket of sockets) socket.destroy();
      server.close();
      await once(server, 'close');
    }
  });
}

const GREETING = '{"QMP": {"version": {}, "capabilities": []}}\n';

describe('QEMU', () => {
  it('answers commands side by side, refuses with its reason, and tells of events', async () => {
    await withQemu(async socketPath => {
      const monitor = await QmpMonitor.connect(socketPath);
      const events: string[] = [];
      monitor.onEvent(({ event }) => events.push(event));
      const [status, version] = await Promise.all([
        monitor.execute('query-status'),
        monitor.execute('query-version'),
      ]);
      expect(status).toMatchObject({ running: true });
      expect(version).toHaveProperty('qemu.major');
      await expect(monitor.execute('blockdev-del', { 'node-name': 'none' })).rejects.toMatchObject({
        code: 'MonitorRefused',
        refusal: 'GenericError',
      });
      await expect(monitor.execute('no-such-command')).rejects.toMatchObject({ refusal: 'CommandNotFound' });
      await monitor.execute('stop');
      await monitor.execute('cont');
      expect(events).toEqual(['STOP', 'RESUME']);
      monitor.close();
      await monitor.closed;
    });
  });

  it('serves one client at a time: the second is told so', async () => {
    await withQemu(async socketPath => {
      const first = await QmpMonitor.connect(socketPath);
      await expect(QmpMonitor.connect(socketPath, 300)).rejects.toMatchObject({
        code: 'MonitorUnreachable',
        message: expect.stringContaining('another client'),
      });
      first.close();
    });
  });

  it('that dies fails what waits for it, and what comes later', async () => {
    await withQemu(async (socketPath, qemu) => {
      const monitor = await QmpMonitor.connect(socketPath);
      qemu.kill('SIGSTOP');
      const waiting = monitor.execute('query-status');
      qemu.kill('SIGKILL');
      await expect(waiting).rejects.toMatchObject({ code: 'MonitorClosed' });
      await monitor.closed;
      await expect(monitor.execute('query-status')).rejects.toMatchObject({ code: 'MonitorClosed' });
    });
  });

  it('that hangs fails a command after its time', async () => {
    await withQemu(async (socketPath, qemu) => {
      const monitor = await QmpMonitor.connect(socketPath);
      qemu.kill('SIGSTOP');
      await expect(monitor.execute('query-status', undefined, 200)).rejects.toMatchObject({
        code: 'MonitorSilent',
      });
      qemu.kill('SIGCONT');
      // The late answer is passed over.
      expect(await monitor.execute('query-status')).toMatchObject({ running: true });
      monitor.close();
    });
  });
});

describe('what is no QEMU', () => {
  it.each([
    ['talks nonsense', 'HTTP/1.1 400 Bad Request\n', 'no JSON object'],
    ['sends a number', '42\n', 'no JSON object'],
    ['hangs up', null, 'hung up'],
  ])('%s and is refused', async (_, text, words) => {
    const onClient = (socket: Socket) => void (text === null ? socket.end() : socket.write(text));
    await withPeer(onClient, async socketPath => {
      await expect(QmpMonitor.connect(socketPath)).rejects.toMatchObject({
        code: 'MonitorUnreachable',
        message: expect.stringContaining(words),
      });
    });
  });

  it('never ends its line and is hung up on', async () => {
    const flood = Buffer.alloc(1024 * 1024, 0x20);
    const onClient = (socket: Socket) => {
      socket.write(GREETING);
      const more = () => void (socket.destroyed || socket.write(flood, more));
      socket.once('data', more);
    };
    await withPeer(onClient, async socketPath => {
      await expect(QmpMonitor.connect(socketPath)).rejects.toMatchObject({ code: 'MonitorClosed' });
    });
  });

  it('is not there', async () => {
    await expect(QmpMonitor.connect('/nonexistent/qmp.sock')).rejects.toMatchObject({
      code: 'MonitorUnreachable',
    });
  });
});
