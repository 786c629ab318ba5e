/* tests/clients/scenarios.js -- beanstalkd's Node clients through one face, and what is done with each of them.
 *
 *   node scenarios.js CLIENT PORT SCENARIO      NODE_PATH names the folder of the installed packages
 *
 * Prints one line of JSON: what the client saw, without ids. The same scenario against two servers must print the same line. The
 * scenario "workers" needs nothing of the server but the port; "restart" asks for a restart by a line on standard output and waits
 * for one on standard input.
 */
'use strict';

const crypto = require('crypto');
const readline = require('readline');

/* Each: connect() -> object with use, watch, ignore, put, reserve, reserveFor, remove, release, bury, touch, kick, peek, statsJob,
 * statsTube, stats, close; a refusal rejects. put gives the id, reserve and peek {id, body}. */
const clients = {
  async jackd(port) {
    const Jackd = require('jackd').JackdClient || require('jackd').default || require('jackd');
    const c = new Jackd();
    await c.connect({ host: '127.0.0.1', port });
    const job = (j) => ({ id: String(j.id), body: Buffer.from(j.payload) });
    const yaml = (text) => Object.fromEntries(text.split('\n').filter((line) => line.includes(': ')).map((line) => {
      const [key, value] = line.split(': ');
      return [key, value.replace(/"/g, '')];
    }));
    return {
      use: (t) => c.use(t), watch: (t) => c.watch(t), ignore: (t) => c.ignore(t),
      put: async (body, pri, delay, ttr) => String(await c.put(body.toString(), { priority: pri, delay, ttr })),
      reserve: async () => job(await c.reserve()), reserveFor: async (s) => job(await c.reserveWithTimeout(s)),
      remove: (id) => c.delete(id), release: (id, pri, delay) => c.release(id, { priority: pri, delay }),
      bury: (id, pri) => c.bury(id, pri), touch: (id) => c.touch(id), kick: (n) => c.kick(n),
      peek: async (id) => job(await c.peek(id)),
      statsJob: async (id) => yaml(await c.statsJob(id)), statsTube: async (t) => yaml(await c.statsTube(t)),
      stats: async () => yaml(await c.stats()),
      close: () => c.quit(), refusesEmpty: true,
    };
  },
  async 'node-beanstalk'(port) {
    const { Client } = require('node-beanstalk');
    const c = new Client({ host: '127.0.0.1', port, serializer: { serialize: (x) => x, deserialize: (x) => x }, maxPayloadSize: 2 << 20 });
    await c.connect();
    c.on('error', () => {});
    const some = async (promise) => {
      const got = await promise;
      if (got === null || got === false) throw new Error('NOT_FOUND');
      return got;
    };
    const job = (j) => ({ id: String(j.id), body: Buffer.from(j.payload) });
    return {
      use: (t) => c.use(t), watch: (t) => c.watch(t), ignore: (t) => c.ignore(t),
      put: async (body, pri, delay, ttr) => String((await c.put(body, ttr, pri, delay)).id),
      reserve: async () => job(await some(c.reserve())), reserveFor: async (s) => job(await some(c.reserveWithTimeout(s))),
      remove: (id) => some(c.delete(Number(id))), release: (id, pri, delay) => some(c.release(Number(id), pri, delay)),
      bury: (id, pri) => some(c.bury(Number(id), pri)), touch: (id) => some(c.touch(Number(id))), kick: (n) => c.kick(n),
      peek: async (id) => job(await some(c.peek(Number(id)))),
      statsJob: (id) => some(c.statsJob(Number(id))), statsTube: (t) => some(c.statsTube(t)), stats: () => c.stats(),
      close: () => c.disconnect(true),
    };
  },
  async fivebeans(port) {
    const fivebeans = require('fivebeans');
    const c = new fivebeans.client('127.0.0.1', port);
    await new Promise((resolve, reject) => c.on('connect', resolve).on('error', reject).connect());
    const call = (name, ...args) => new Promise((resolve, reject) => {
      c[name](...args, (error, ...got) => (error ? reject(new Error(String(error))) : resolve(got)));
    });
    const one = (...args) => call(...args).then((got) => got[0]);
    const job = async (...args) => {
      const [id, payload] = await call(...args);
      return { id: String(id), body: Buffer.from(payload) };
    };
    return {
      use: (t) => one('use', t), watch: async (t) => Number(await one('watch', t)), ignore: (t) => one('ignore', t),
      put: async (body, pri, delay, ttr) => String(await one('put', pri, delay, ttr, body)),
      reserve: () => job('reserve'), reserveFor: (s) => job('reserve_with_timeout', s),
      remove: (id) => one('destroy', id), release: (id, pri, delay) => one('release', id, pri, delay),
      bury: (id, pri) => one('bury', id, pri), touch: (id) => one('touch', id), kick: async (n) => Number(await one('kick', n)),
      peek: (id) => job('peek', id),
      statsJob: (id) => one('stats_job', id), statsTube: (t) => one('stats_tube', t), stats: () => one('stats'),
      close: async () => c.end(),
    };
  },
  async beanstalkd(port) {
    const Beanstalkd = require('beanstalkd').default || require('beanstalkd');
    const c = await new Beanstalkd('127.0.0.1', port).connect();
    const job = ([id, body]) => ({ id: String(id), body: Buffer.from(body) });
    return {
      use: (t) => c.use(t), watch: async (t) => Number(await c.watch(t)), ignore: (t) => c.ignore(t),
      put: async (body, pri, delay, ttr) => String(await c.put(pri, delay, ttr, body)),
      reserve: async () => job(await c.reserve()), reserveFor: async (s) => job(await c.reserveWithTimeout(s)),
      remove: (id) => c.delete(id), release: (id, pri, delay) => c.release(id, pri, delay),
      bury: (id, pri) => c.bury(id, pri), touch: (id) => c.touch(id), kick: null,
      peek: async (id) => { const got = await c.peek(id); return job(Array.isArray(got) ? got : [id, got]); },
      statsJob: (id) => c.statsJob(id), statsTube: (t) => c.statsTube(t), stats: () => c.stats(),
      close: async () => c.quit(),
    };
  },
  async nodestalker(port) {
    const c = require('nodestalker').Client(`127.0.0.1:${port}`, true);
    const call = (name, ...args) => new Promise((resolve, reject) => {
      c[name](...args).onSuccess(resolve).onError((error) => reject(new Error(String(error))));
    });
    const first = async (...args) => { const got = await call(...args); return Array.isArray(got) ? got[0] : got; };
    const job = async (...args) => {
      const got = await call(...args);
      if (Array.isArray(got)) {
        /* its way to say that a body is empty, or that there is no job */
        if (got.length !== 2) throw new Error(String(got));
        return { id: String(got[0]), body: Buffer.alloc(0) };
      }
      return { id: String(got.id), body: Buffer.from(got.data) };
    };
    return {
      use: (t) => first('use', t), watch: async (t) => Number(await first('watch', t)), ignore: (t) => first('ignore', t),
      put: async (body, pri, delay, ttr) => String(await first('put', body.toString(), pri, delay, ttr)),
      reserve: () => job('reserve'), reserveFor: (s) => job('reserve_with_timeout', s),
      remove: (id) => first('deleteJob', id), release: (id, pri, delay) => first('release', id, pri, delay),
      bury: (id, pri) => first('bury', id, pri), touch: (id) => first('touch', id), kick: async (n) => Number(await first('kick', n)),
      peek: (id) => job('peek', id),
      statsJob: (id) => call('stats_job', id), statsTube: (t) => call('stats_tube', t), stats: () => call('stats'),
      close: async () => c.disconnect(),
    };
  },
};

/* What a client has no word for, or says in its own words, is left out. */
async function attempt(seen, name, action) {
  try {
    const got = await action();
    seen.push([name, got === undefined ? 'done' : got]);
    return got;
  } catch (error) {
    const word = /NOT_FOUND|TIMED_OUT|DEADLINE_SOON|NOT_IGNORED|JOB_TOO_BIG|BAD_FORMAT/.exec(String(error && error.message));
    seen.push([name, word ? 'refused' : `error ${error && error.message}`]);
    return undefined;
  }
}

const text = (job) => job.body.toString();
const figures = (values, ...keys) => keys.map((key) => `${key}=${values[key]}`);
const digest = (bytes) => crypto.createHash('sha256').update(bytes).digest('hex').slice(0, 16);

const scenarios = {
  /* Every command that the client has, once or twice. */
  async basics(connect) {
    const seen = [];
    const c = await connect();
    await attempt(seen, 'use', async () => String(await c.use('t')));
    await attempt(seen, 'watch', async () => Number(await c.watch('t')));
    await attempt(seen, 'ignore', async () => { await c.ignore('default'); });
    const a = await c.put(Buffer.from('first'), 10, 0, 60);
    const b = await c.put(Buffer.from('second'), 5, 0, 60);
    await c.put(Buffer.from('later'), 5, 3600, 60);
    await attempt(seen, 'peek', async () => text(await c.peek(a)));
    let job = await c.reserve();
    seen.push(['reserve', job.id === b, text(job)]);
    await attempt(seen, 'touch', async () => { await c.touch(b); });
    await attempt(seen, 'stats-job', async () => figures(await c.statsJob(b), 'tube', 'state', 'pri', 'ttr', 'reserves', 'releases'));
    await attempt(seen, 'release', async () => { await c.release(b, 20, 0); });
    job = await c.reserveFor(1);
    seen.push(['reserve', job.id === a, text(job)]);
    await attempt(seen, 'bury', async () => { await c.bury(a, 3); });
    await attempt(seen, 'stats-job', async () => figures(await c.statsJob(a), 'state', 'pri', 'buries'));
    if (c.kick) {
      await attempt(seen, 'kick', async () => Number(await c.kick(10)));
      job = await c.reserveFor(1);
      seen.push(['reserve', job.id === a, text(job)]);
      await attempt(seen, 'delete', async () => { await c.remove(a); });
    }
    job = await c.reserveFor(1);
    seen.push(['reserve', job.id === b, text(job)]);
    await attempt(seen, 'delete', async () => { await c.remove(b); });
    await attempt(seen, 'delete', async () => { await c.remove(b); });
    await attempt(seen, 'reserve', async () => { await c.reserveFor(0); });
    await attempt(seen, 'peek', async () => { await c.peek('999999'); });
    await attempt(seen, 'stats-tube', async () => figures(await c.statsTube('t'), 'name', 'current-jobs-ready', 'current-jobs-delayed',
      'current-jobs-buried', 'current-jobs-reserved', 'total-jobs', 'current-using', 'current-watching'));
    await attempt(seen, 'stats', async () => {
      const values = await c.stats();
      return [Object.keys(values).length, ...figures(values, 'current-jobs-delayed', 'total-jobs', 'max-job-size', 'draining')];
    });
    await c.close();
    return seen;
  },

  /* Bodies of every size around what goes into one packet, one buffer, and more. */
  async bodies(connect) {
    const seen = [];
    const c = await connect();
    for (const size of [0, 1, 200, 224, 1000, 4096, 16383, 16384, 16385, 65535, 65536, 200000, 1 << 20]) {
      if (size === 0 && c.refusesEmpty) continue;
      const body = Buffer.alloc(size, 'The quick brown fox jumps over the lazy dog, as ever. ');
      const id = await c.put(body, 0, 0, 60);
      const job = await c.reserve();
      seen.push([size, job.id === id, job.body.length, digest(job.body) === digest(body)]);
      await c.remove(id);
    }
    await c.close();
    return seen;
  },

  /* Producers and workers at once: every job is done once, the ones sent back too. */
  async workers(connect) {
    const jobs = 400, producers = 3, workers = 6;
    const done = new Map();
    let released = 0;
    const produce = async (number) => {
      const c = await connect();
      await c.use('work');
      for (let i = 0; i < jobs; i++) await c.put(Buffer.from(`${number}/${i}`), i % 5, 0, 60);
      await c.close();
    };
    const work = async () => {
      const c = await connect();
      await c.watch('work');
      await c.ignore('default');
      for (;;) {
        let job;
        try {
          job = await c.reserveFor(1);
        } catch (error) {
          if (done.size < jobs * producers) continue;
          break;
        }
        const name = text(job);
        if (name.endsWith('7') && !done.has(name + ' seen')) {
          done.set(name + ' seen', 0);
          released++;
          await c.release(job.id, 1, 0);
          continue;
        }
        done.set(name, (done.get(name) || 0) + 1);
        await c.remove(job.id);
      }
      await c.close();
    };
    await Promise.all([...Array(producers).keys()].map(produce).concat([...Array(workers).keys()].map(work)));
    const counts = [...done.entries()].filter(([name]) => !name.endsWith(' seen')).map(([, count]) => count);
    return [['jobs', counts.length], ['once', counts.every((count) => count === 1)], ['released', released]];
  },

  /* The server goes and comes back: what was answered is there, what was reserved can be reserved again. */
  async restart(connect) {
    const seen = [];
    const input = readline.createInterface({ input: process.stdin });
    let c = await connect();
    await c.use('keep');
    await c.watch('keep');
    const ids = [];
    for (let i = 0; i < 20; i++) ids.push(await c.put(Buffer.from(`job ${i}`), 0, 0, 3600));
    await c.remove((await c.reserve()).id);
    await c.reserve();
    const again = new Promise((resolve) => input.once('line', resolve));
    process.stdout.write('restart\n');
    await again;
    for (let i = 0; ; i++) {
      try {
        c = await connect();
        break;
      } catch (error) {
        if (i === 200) throw error;
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
    }
    await c.watch('keep');
    for (let i = 1; i < 20; i++) {
      const job = await c.reserveFor(2);
      seen.push([text(job), job.id === ids[i]]);
      await c.remove(job.id);
    }
    await attempt(seen, 'empty', async () => { await c.reserveFor(0); });
    await c.close();
    input.close();
    return seen;
  },
};

async function main() {
  const [name, port, scenario] = process.argv.slice(2);
  process.on('uncaughtException', (error) => {
    /* a socket of a connection that the restart has ended */
    if (!['ECONNRESET', 'EPIPE', 'ECONNREFUSED'].includes(error.code)) throw error;
  });
  process.on('unhandledRejection', (error) => {
    if (!/closed|CLOSED|ECONN|EPIPE|ended/i.test(String(error && (error.message || error)))) throw error;
  });
  const seen = await scenarios[scenario](() => clients[name](Number(port)));
  process.stdout.write(JSON.stringify(seen) + '\n', () => process.exit(0));
}

main().catch((error) => {
  process.stderr.write(`${error && error.stack}\n`);
  process.exit(1);
});
