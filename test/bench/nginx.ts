/** nginx as the plain reverse proxy to compare with: one worker, kept-alive upstream, no log, no disk. */
import { spawn, spawnSync } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'

const READY_MS_MAX = 5_000

export interface Nginx {
  readonly pid: number
  readonly version: string
  stop(): Promise<void>
}

/** The version of the installed nginx, which is installed where that is ours to do. Throws an error that says what is missing. */
export function ensureNginx(say: (line: string) => void): string {
  const found = versionOf()
  if (found !== null) return found
  if (process.getuid?.() !== 0 || spawnSync('apt-get', ['--version']).status !== 0) {
    throw new Error(
      'nginx is missing: the bench compares with it. Install the package `nginx` (apt-get install nginx), then `make bench` again',
    )
  }
  say('nginx is missing; installing it with apt-get ...')
  const environment = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' }
  spawnSync('apt-get', ['update', '-qq'], { env: environment })
  const installed = spawnSync('apt-get', ['install', '-y', '-qq', '--no-install-recommends', 'nginx-light'], {
    env: environment,
    encoding: 'utf8',
  })
  const version = versionOf()
  if (version === null) throw new Error(`nginx is missing, and apt-get could not install it: ${installed.stderr.trim()}`)
  return version
}

/** Starts it in `folder`, listening on `port` for plain answers and on `streamPort` with buffering off. */
export async function startNginx(
  folder: string,
  ports: { readonly plain: number; readonly stream: number; readonly upstream: number },
): Promise<Nginx> {
  const version = versionOf()
  if (version === null) throw new Error('nginx is missing')
  mkdirSync(join(folder, 'logs'), { recursive: true })
  const file = join(folder, 'nginx.conf')
  writeFileSync(file, configOf(folder, ports))
  const child = spawn('nginx', ['-p', folder, '-c', file, '-e', join(folder, 'error.log')], { stdio: ['ignore', 'ignore', 'inherit'] })
  const pid = child.pid
  if (pid === undefined) throw new Error('nginx did not start')
  await accepting(ports.plain, child)
  return {
    pid,
    version,
    async stop() {
      if (child.exitCode !== null || child.signalCode !== null) return
      child.kill('SIGTERM')
      await once(child, 'exit')
    },
  }
}

function configOf(folder: string, ports: { readonly plain: number; readonly stream: number; readonly upstream: number }): string {
  const server = (port: number, buffering: 'on' | 'off'): string => `
  server {
    listen 127.0.0.1:${port};
    location / {
      proxy_pass http://provider;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_buffering ${buffering};
    }
  }`
  const scratch = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map((name) => `  ${name}_temp_path ${join(folder, name)};`)
  return `worker_processes 1;
daemon off;
pid ${join(folder, 'nginx.pid')};
error_log ${join(folder, 'error.log')} error;
events { worker_connections 2048; }
http {
  access_log off;
  tcp_nodelay on;
  keepalive_timeout 120s;
  keepalive_requests 1000000;
  client_max_body_size 32m;
  client_body_buffer_size 256k;
${scratch.join('\n')}
  upstream provider {
    server 127.0.0.1:${ports.upstream};
    keepalive 256;
    keepalive_requests 1000000;
  }${server(ports.plain, 'on')}${server(ports.stream, 'off')}
}
`
}

function versionOf(): string | null {
  const { status, stderr } = spawnSync('nginx', ['-v'], { encoding: 'utf8' })
  return status === 0 ? (/nginx\/(\S+)/.exec(stderr)?.[1] ?? null) : null
}

async function accepting(port: number, child: ChildProcess): Promise<void> {
  const end = performance.now() + READY_MS_MAX
  while (performance.now() < end && child.exitCode === null) {
    const open = await new Promise<boolean>((resolve) => {
      const socket = connect({ port, host: '127.0.0.1' }, () => {
        socket.destroy()
        resolve(true)
      })
      socket.on('error', () => resolve(false))
    })
    if (open) return
    await sleep(25)
  }
  throw new Error(`nginx does not listen on port ${port}`)
}
