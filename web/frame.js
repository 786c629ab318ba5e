/* web/frame.js -- what all views stand on: elements, requests, the token, dialogs, polling, samples. views.js follows in the same script.
 *
 * Whatever comes from the server becomes text of an element, or one of the few attributes of h(), never markup; links lead to places
 * within this page only. The token lives in this variable alone: other pages of this origin, such as those of a service behind the gateway,
 * could read what a browser keeps. Nothing is asked for while nobody looks at the page.
 */
"use strict";

const $ = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";
const SAMPLES = 90, RATE_MS = 10000, PREVIEW_BYTES = 16384, ROWS = 200, MESSAGES = 4;
const WAITING = ["delayed", "ready", "buried", "awaiting"], FINISHED = ["done", "failed", "cancelled"];
/* those of the server in the order in which they are shown; what else it counts is added */
const STATES = ["ready", "running", "delayed", "awaiting", "buried", "failed", "done", "cancelled"];

/* An element. on…: a listener; true and false: an attribute without value, or none. Children are nodes, text or arrays of them. */
function h(tag, attributes, ...children) {
	const element = document.createElement(tag);
	for (const [name, value] of Object.entries(attributes || {})) {
		if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
		else if (value !== undefined && value !== null && value !== false) element.setAttribute(name, value === true ? "" : value);
	}
	element.append(...children.flat(3).filter((c) => c !== undefined && c !== null && c !== false));
	return element;
}

/* Change what is different only: a reader's selection and place stay. */
function say(element, text) {
	if (element.textContent !== String(text)) element.textContent = text;
}

const number = new Intl.NumberFormat("en");
const show = (value) => value === null || value === undefined ? "–" : typeof value === "number" ? number.format(value) : String(value);
const rate = (value) => value === undefined ? "–" : value >= 100 ? number.format(Math.round(value)) : value.toFixed(1);
const plural = (count, word) => `${number.format(count)} ${word}${count === 1 ? "" : "s"}`;

function bytes(count) {
	if (!(count >= 1024)) return `${show(count)} B`;
	const unit = Math.min(Math.floor(Math.log2(count) / 10), 5);
	return `${(count / 1024 ** unit).toFixed(1)} ${["B", "KiB", "MiB", "GiB", "TiB", "PiB"][unit]}`;
}

function seconds(s) {
	if (s < 0.001) return `${Math.round(s * 1e6)} µs`;
	if (s < 1) return `${(s * 1000).toFixed(s < 0.01 ? 1 : 0)} ms`;
	for (const [length, unit] of [[86400, "d"], [3600, "h"], [60, "min"]]) {
		if (s >= 2 * length) return `${Math.round(s / length)} ${unit}`;
	}
	return `${s.toFixed(s < 10 ? 1 : 0)} s`;
}

function when(instant) {
	if (!instant) return "–";
	const away = (Date.parse(instant) - Date.now()) / 1000;
	return h("time", {datetime: instant, title: instant}, away > 0 ? `in ${seconds(away)}` : `${seconds(-away)} ago`);
}

/* ---- places: #/queues/NAME?state=failed ------------------------------------------------------------------------------------------------ */

const part = (name) => encodeURIComponent(name).replace(/[!'()*~]/g, (c) => "%" + c.charCodeAt(0).toString(16).toUpperCase());
const query = (values) => {
	const given = Object.entries(values || {}).filter(([, value]) => value !== undefined && value !== null && value !== "");
	return given.length ? "?" + given.map(([name, value]) => `${name}=${part(value)}`).join("&") : "";
};
const place = (parts, values) => "#/" + parts.map(part).join("/") + query(values);
const link = (text, ...parts) => h("a", {href: place(parts)}, text);
const queueLink = (name) => link(name, "queues", name);
const jobLink = (id) => link(String(id), "jobs", String(id));

/* The path of a request. A browser takes such a segment for something else, however it is encoded. */
function path(...parts) {
	for (const name of parts) {
		if (name === "." || name === "..") throw new Error(`a browser cannot ask for anything of the name '${name}'; curl can`);
	}
	return "/" + parts.map(part).join("/");
}

/* ---- requests ----------------------------------------------------------------------------------------------------------------------------- */

class Refusal extends Error {
	constructor(status, problem) {
		super(problem.detail || problem.title || `status ${status}`);
		this.status = status;
		this.code = problem.code;
	}
}

class Unreachable extends Error {}

async function reach(at, options) {
	try {
		return await fetch(at, options);
	} catch (error) {
		throw error.name === "AbortError" ? error : new Unreachable("the server does not answer");
	}
}

let token = "", tokenless = false; /* tokenless: asked, and none was given */
let tokenAsked = null; /* the promise of a token that is being asked for */
const refused = new Map(); /* "admin mail": what the server said of it */

async function problemOf(answer) {
	try {
		return await answer.json();
	} catch {
		return {};
	}
}

function showToken() {
	$("token").hidden = !token && !tokenless;
	say($("token"), token ? "Forget the token" : "Give a token");
}

async function wantToken(why) {
	if (tokenless) throw new Refusal(401, {detail: "the server wants a token"});
	tokenAsked ||= dialog({
		title: "A token is needed", text: `${why}. It is kept in this page until it is closed or loaded anew.`, action: "Use it",
		input: {label: "Token", type: "password", name: "token"},
	}).then((given) => {
		tokenAsked = null;
		token = (given || "").trim();
		tokenless = !token;
		refused.clear();
		showToken();
		if (tokenless) throw new Refusal(401, {detail: "the server wants a token"});
	});
	await tokenAsked;
}

/* The answer, of a status below 400. fetch: further options of fetch(); foreign: the answer is what a worker or a backend said. */
async function ask(method, at, options = {}) {
	for (;;) {
		const used = token, headers = {...(options.json ? {"Content-Type": "application/json"} : {}), ...options.headers};
		if (used) headers.Authorization = "Bearer " + used;
		const answer = await reach(at, {
			method, headers, signal: options.signal, body: options.json && JSON.stringify(options.json), cache: "no-store", redirect: "manual",
			/* cookies that a backend's answer sets are none of ours */
			credentials: options.foreign ? "omit" : "same-origin",
		});
		if (options.foreign && answer.headers.get("Whilst-Job")) return answer;
		if (answer.type === "opaqueredirect") throw new Error("the result is a redirect, which a browser shows to nobody");
		if (answer.status < 400) return answer;
		const problem = await problemOf(answer);
		if (answer.status !== 401) throw new Refusal(answer.status, problem);
		if (used === token) await wantToken(problem.detail || "The server wants to know who asks");
	}
}

const read = async (at, options) => (await ask("GET", at, options)).json();
/* A list of things by their names, page after page. */
async function readAll(at, list, options) {
	const all = [];
	let after;
	do {
		const page = await read(at + query({after}), options);
		all.push(...page[list]);
		after = page.next;
	} while (after);
	return all;
}

/* Each of the items, so many at a time. */
async function each(items, atOnce, work) {
	const left = [...items];
	await Promise.all(Array.from({length: Math.min(atOnce, left.length)}, async () => {
		while (left.length) await work(left.shift());
	}));
}

/* ---- messages and dialogs ------------------------------------------------------------------------------------------------------------- */

function message(kind, text) {
	const line = h("div", {class: `message ${kind}`}, h("span", {}, text), h("button", {type: "button", "aria-label": "Dismiss", onclick: () => line.remove()}, "×"));
	$("messages").append(line);
	while ($("messages").children.length > MESSAGES) $("messages").firstChild.remove();
	if (kind === "good") setTimeout(() => line.remove(), 8000);
}

/* What was typed, true, or null if it was dismissed. The safe answer has the focus. */
function dialog({title, text, action, danger, input}) {
	const box = $("dialog"), before = document.activeElement;
	const field = input && h("input", {type: input.type || "text", name: input.name, list: input.list, required: true, autocomplete: "off", spellcheck: "false"});
	return new Promise((resolve) => {
		let result = null;
		const cancel = h("button", {type: "button", onclick: () => box.close()}, "Cancel");
		const form = h("form", {method: "dialog", onsubmit: (event) => {
			event.preventDefault();
			result = field ? field.value : true;
			box.close();
		}}, h("h2", {id: "dialog-title"}, title), h("p", {}, text), field && h("label", {}, input.label, field),
		h("div", {class: "bar"}, cancel, h("button", {class: danger ? "danger" : "main", value: "yes"}, action)));
		box.replaceChildren(form);
		box.addEventListener("close", () => {
			box.replaceChildren();
			before?.focus?.();
			resolve(result);
		}, {once: true});
		box.showModal();
		(field || cancel).focus();
	});
}

/* A button for what the scope allows on a queue (or anything, ""). Once the server has said no, it says so. */
function button(label, scope, subject, run, options = {}) {
	const element = h("button", {type: "button", class: options.danger && "danger"}, label);
	const key = `${scope} ${subject}`;
	const mark = () => {
		element.disabled = refused.has(key);
		if (element.disabled) element.title = refused.get(key);
	};
	mark();
	element.addEventListener("click", async () => {
		const confirmed = options.confirm ? await dialog(options.confirm()) : true;
		if (!confirmed) return;
		element.disabled = true;
		try {
			const done = await run(confirmed);
			if (done) message("good", done);
			view?.again?.();
		} catch (error) {
			if (error.status === 403) refused.set(key, "Not allowed: " + error.message);
			message("bad", `${label.replace("…", "")}: ${error.status === 403 ? "not allowed: " : ""}${error.message}`);
		}
		element.disabled = false;
		mark();
	});
	return element;
}

/* ---- what is looked at, again and again ----------------------------------------------------------------------------------------------- */

let view = null; /* {signal, end(), again()} */

const visible = () => !document.hidden && $("live").checked;

function pause(ms, signal, wake) {
	return new Promise((resolve) => {
		const end = () => {
			clearTimeout(timer);
			signal.removeEventListener("abort", end);
			resolve();
		};
		const timer = setTimeout(end, ms);
		signal.addEventListener("abort", end);
		wake?.(end);
	});
}

/* look() now, and every ms; when it takes long, less often, so that a page costs the server a tenth of its time at most. */
async function follow(signal, ms, look) {
	let again = false, wake = () => {};
	const over = () => signal.aborted;
	const previous = view?.again;
	if (view && view.signal === signal) {
		view.again = () => {
			previous?.();
			again = true;
			wake();
		};
	}
	let told = "";
	for (let first = true; !over(); first = false) {
		const began = performance.now();
		if (first || again || visible()) {
			again = false;
			try {
				await look();
				told = "";
			} catch (error) {
				if (over()) return;
				if (error.message !== told) failed(error);
				told = error.message;
			}
		}
		if (!again) await pause(Math.max(ms, 10 * (performance.now() - began)), signal, (end) => (wake = end));
	}
}

function failed(error) {
	if (error instanceof Unreachable) {
		condition("bad", "no answer");
		return;
	}
	if (!(error instanceof Refusal)) console.error(error);
	message("bad", (error.status === 403 ? "Not allowed: " : "") + error.message);
}

function condition(kind, text) {
	$("health").className = "tag " + kind;
	say($("health"), text);
}

async function lookAtHealth() {
	const answer = await reach("/readyz", {cache: "no-store"}), problem = answer.ok ? {} : await problemOf(answer);
	if (answer.ok) condition("good", "ready");
	else condition("bad", `${problem.code || answer.status}: ${problem.detail || ""}`);
}

/* ---- queues, and what they were ------------------------------------------------------------------------------------------------------- */

/* name: {info, samples}; a sample: {at, taken, left, waiting}. In: counted by the server. Out: what was taken in less what is there unfinished;
 * jobs that were moved elsewhere are among it. */
const queues = new Map();
const total = {samples: []};
const unfinished = (jobs) => Object.entries(jobs).reduce((sum, [state, count]) => FINISHED.includes(state) ? sum : sum + count, 0);

function sample(of, at, submitted, jobs) {
	of.samples.push({at, taken: submitted, left: submitted - unfinished(jobs), waiting: jobs.ready + jobs.delayed});
	if (of.samples.length > SAMPLES) of.samples.shift();
}

/* A second, of late; undefined: not known yet. */
function rates(samples) {
	const last = samples.at(-1), since = samples.findIndex((s) => s.at >= last.at - RATE_MS), first = samples[Math.min(since, samples.length - 2)];
	if (!first || last.at - first.at < 500) return {};
	const per = (name) => Math.max(0, (last[name] - first[name]) / (last.at - first.at) * 1000);
	return {taken: per("taken"), left: per("left")};
}

function remember(infos, all) {
	const added = Object.keys(infos[0]?.jobs || {}).filter((state) => !STATES.includes(state));
	if (added.length) {
		STATES.push(...added);
		setTimeout(open);
	}
	const at = performance.now(), sum = Object.fromEntries(STATES.map((state) => [state, 0]));
	let submitted = 0;
	for (const info of infos) {
		let known = queues.get(info.name);
		if (!known || known.info.submitted > info.submitted) queues.set(info.name, known = {samples: []});
		known.info = info;
		sample(known, at, info.submitted, info.jobs);
		submitted += info.submitted;
		for (const state of STATES) sum[state] += info.jobs[state];
	}
	if (!all) return;
	if (queues.size !== infos.length) {
		const names = new Set(infos.map((info) => info.name));
		for (const name of queues.keys()) names.has(name) || queues.delete(name);
		total.samples = [];
	}
	total.jobs = sum;
	sample(total, at, submitted, sum);
}

async function lookAtQueues(signal) {
	remember(await readAll("/v1/queues", "queues", {signal}), true);
	const names = $("queue-names");
	if (names.children.length !== Math.min(queues.size, ROWS))
		names.replaceChildren(...[...queues.keys()].slice(0, ROWS).map((name) => h("option", {value: name})));
}

/* Lines over time: each a function of two neighbouring samples; one scale for all. */
function chart(big) {
	const svg = document.createElementNS(SVG, "svg");
	svg.setAttribute("class", big ? "line big" : "line");
	svg.setAttribute("viewBox", "0 0 100 20");
	svg.setAttribute("preserveAspectRatio", "none");
	svg.setAttribute("aria-hidden", "true");
	return svg;
}

function draw(svg, samples, ...values) {
	const rows = values.map((value) => samples.map((s, i) => i ? value(s, samples[i - 1]) : undefined).slice(1));
	const top = Math.max(1e-9, ...rows.flat());
	while (svg.children.length < rows.length) svg.append(document.createElementNS(SVG, "polyline"));
	rows.forEach((row, i) => {
		const points = row.map((value, at) => `${(100 * (SAMPLES - row.length + at) / (SAMPLES - 1)).toFixed(1)},${(19 - 18 * value / top).toFixed(1)}`);
		svg.children[i].setAttribute("points", points.join(" "));
	});
}

const flow = (name) => (s, before) => Math.max(0, (s[name] - before[name]) / Math.max(1, s.at - before.at) * 1000);
const level = (name) => (s) => s[name];

/* ---- tables --------------------------------------------------------------------------------------------------------------------------- */

/* Columns: {title, n: a number, sort: key of a row, cell: what a row shows}. Rows are told apart by key() and are changed in place. */
function table(caption, columns, key, order) {
	const rows = new Map();
	const body = h("tbody"), more = h("button", {type: "button", hidden: true});
	let sorted = order, all = [], limit = ROWS;
	const heads = columns.map((column, i) => h("th", {scope: "col", class: column.n && "n"}, column.sort
		? h("button", {type: "button", onclick: () => {
			sorted = {by: i, down: sorted?.by === i ? !sorted.down : Boolean(column.n)};
			fill(all);
		}}, column.title) : column.title));
	const element = h("div", {class: "scroll", tabindex: "0", role: "region", "aria-label": caption},
		h("table", {}, h("caption", {}, caption), h("thead", {}, h("tr", {}, heads)), body));
	more.addEventListener("click", () => {
		limit += 4 * ROWS;
		fill(all);
	});

	function put(row, item) {
		columns.forEach((column, i) => {
			const cell = row.children[i], value = column.cell(item, cell);
			if (value === undefined) return; /* it has seen to it itself */
			if (value instanceof Node || Array.isArray(value)) cell.replaceChildren(...[value].flat(2).filter(Boolean));
			else say(cell, value);
			if (column.n) cell.classList.toggle("zero", value === "0" || value === "–");
		});
	}

	function fill(items) {
		all = items;
		if (sorted) {
			const by = columns[sorted.by].sort;
			all = [...items].sort((a, b) => {
				const x = by(a), y = by(b), order = typeof x === "string" ? x.localeCompare(y) : x - y;
				return sorted.down ? -order : order;
			});
		}
		heads.forEach((head, i) => sorted?.by === i ? head.setAttribute("aria-sort", sorted.down ? "descending" : "ascending") : head.removeAttribute("aria-sort"));
		const shown = all.slice(0, limit), wanted = shown.map((item) => {
			const id = key(item);
			let row = rows.get(id);
			if (!row) rows.set(id, row = h("tr", {}, columns.map((column, i) => h(i ? "td" : column.pick ? "td" : "th", {class: column.class || (column.n ? "n" : undefined), scope: i || column.pick ? undefined : "row"}))));
			put(row, item);
			return row;
		});
		if (wanted.length !== body.children.length || wanted.some((row, i) => body.children[i] !== row)) body.replaceChildren(...wanted);
		const ids = new Set(shown.map(key));
		for (const id of rows.keys()) ids.has(id) || rows.delete(id);
		more.hidden = all.length <= limit;
		say(more, `Show more of ${number.format(all.length)}`);
	}
	return {element: h("div", {}, element, more), fill};
}

/* Prometheus text: name{labels} to a number; labels as they stand there. */
function metrics(text) {
	const found = new Map();
	for (const line of text.split("\n")) {
		const space = line.lastIndexOf(" ");
		if (line[0] !== "#" && space > 0) found.set(line.slice(0, space), Number(line.slice(space + 1)));
	}
	return found;
}

/* A quantile of a histogram: the upper end of the bucket that it falls into. */
function quantile(found, name, labels, q) {
	const prefix = `${name}_bucket{${labels}`, count = found.get(`${name}_count${labels ? `{${labels.replace(/,$/, "")}}` : ""}`);
	if (!count) return undefined;
	for (const [key, value] of found) {
		if (key.startsWith(prefix) && value >= q * count) return Number(/le="([^"]+)"/.exec(key)[1].replace("+Inf", "Infinity"));
	}
	return undefined;
}

function facts(pairs) {
	return h("dl", {}, pairs.filter(Boolean).map(([name, value]) => [h("dt", {}, name), h("dd", {}, value instanceof Node || Array.isArray(value) ? value : show(value))]));
}
