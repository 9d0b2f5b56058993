/**
 * Preloaded (`node --import`) into a child that must not outlive its parent. The IPC channel closes when the
 * parent ends, even by SIGKILL; the child then gets SIGTERM as from an operator, and SIGKILL if it hangs.
 */
const HANG_TIMEOUT_MS = 40_000;

if (process.channel) {
  process.on('disconnect', () => {
    setTimeout(() => process.kill(process.pid, 'SIGKILL'), HANG_TIMEOUT_MS).unref();
    process.kill(process.pid, 'SIGTERM');
  });
  // The channel alone must not keep the child running.
  process.channel.unref();
}
