/* web/views.js -- the places of the dashboard: what each asks the server for, shows and offers. Begins with what several of them share. */

const waiting = (jobs) => jobs.delayed + jobs.ready;
const stateTag = (state) => h("span", {class: "tag " + ({done: "good", failed: "bad", buried: "bad", running: "warn", cancelled: "soft"}[state] || "")}, state);
const heading = (...text) => h("h1", {}, text);
const soft = (text) => h("p", {class: "soft"}, text);

async function metricsNow(signal) {
	return metrics(await (await ask("GET", "/metrics?queues=false", {signal})).text());
}

/* Cards that are filled in again and again. */
function cards(names, address) {
	const parts = names.map((name) => {
		const value = h("b", {}, "–"), href = address?.(name);
		return {value, element: h(href ? "a" : "div", {class: "card", href}, h("span", {}, name), value)};
	});
	return {element: h("div", {class: "cards"}, parts.map((p) => p.element)), parts, fill: (values) => values.forEach((value, i) => say(parts[i].value, show(value)))};
}

/* ---- overview ------------------------------------------------------------------------------------------------------------------------- */

function attention(found) {
	const list = [], add = (kind, ...text) => list.push(h("li", {class: kind}, text));
	const value = (name) => found?.get(name) || 0;
	if (value("whilst_disk_full")) add("bad", "The disk is full: new jobs are refused; finishing and cancelling go on.");
	if (value("whilst_log_unsynced_age_seconds") > 1) add("bad", `The disk does not keep up: what was answered at async is ${seconds(value("whilst_log_unsynced_age_seconds"))} old and not flushed.`);
	if (value("whilst_blobs_damaged_total")) add("bad", plural(value("whilst_blobs_damaged_total"), "read"), " of a body in a file that was missing or not what was written.");
	if (value("whilst_checkpoints_failed_total")) add("warn", plural(value("whilst_checkpoints_failed_total"), "checkpoint"), " given up for want of memory or disk.");
	if (value("whilst_schedules_late")) add("bad", plural(value("whilst_schedules_late"), "schedule"), " late or unable to run: ", link("schedules", "schedules"), ".");
	for (const [key, up] of found || []) {
		if (!up && key.startsWith("whilst_backend_up{")) add("bad", `A backend takes no calls: ${key.slice(18, -1)}. `, link("Services", "services"));
		if (!up && key.startsWith("whilst_sandbox{")) add("soft", `The sandbox does not restrict ${/"([^"]*)"/.exec(key)[1]}; the log of events says why.`);
	}
	for (const [name, {info}] of queues) {
		if (info.paused && waiting(info.jobs)) add("warn", queueLink(name), ` is paused, and ${plural(waiting(info.jobs), "job")} wait in it.`);
		if (info.jobs_max && unfinished(info.jobs) >= 0.9 * info.jobs_max) add("warn", queueLink(name), ` is nearly full: ${show(unfinished(info.jobs))} of ${show(info.jobs_max)} jobs.`);
		if (name === "callbacks" && info.jobs.buried) add("bad", plural(info.jobs.buried, "callback"), " set aside, since nobody took them: ", queueLink(name), ".");
		if (list.length > 30) break;
	}
	return list;
}

function positions(log) {
	const named = Object.entries(log).filter(([, value]) => /^\d+\/\d+$/.test(value));
	return [...named.map(([name, value]) => [name.replace(/_/g, " "), value]),
		!named.some(([name]) => name.startsWith("remote")) && ["replicated", "no standby; the strongest level is local"]];
}

function healthFacts(found, log) {
	const info = /version="([^"]*)",engine="([^"]*)"/.exec([...found.keys()].find((key) => key.startsWith("whilst_build_info")) || "") || [];
	const sandbox = ["files", "calls"].map((part) => found.get(`whilst_sandbox{part="${part}"}`) ? part : null).filter(Boolean).join(" and ");
	const p = (q) => quantile(found, "whilst_commit_seconds", 'level="local",', q);
	return facts([
		["version, engine", `${info[1] || "?"}, ${info[2] || "?"}`],
		...positions(log),
		["commits at local", p(0.5) ? `half within ${seconds(p(0.5))}, 99 % within ${seconds(p(0.99))}` : "none yet"],
		["not flushed", bytes(found.get("whilst_log_unsynced_bytes") || 0)],
		["log on disk", `${bytes(found.get("whilst_log_disk_bytes") || 0)} in ${plural(found.get("whilst_log_segments") || 0, "segment")}`],
		["connections", `${show(found.get("whilst_http_connections"))}; ${show(found.get("whilst_http_parked"))} callers wait`],
		["sandbox restricts", sandbox || "nothing"],
	]);
}

function overview(main, signal) {
	const counts = cards([...STATES, "in /s", "out /s"]), line = chart(true), list = h("ul"), health = h("div", {class: "panel"}, soft("looking"));
	let found = null;
	main.append(heading("Overview"), counts.element,
		h("figure", {class: "panel"}, h("figcaption", {class: "soft"}, "Jobs taken in, and jobs finished or moved away (the second line), a second"), line),
		h("h2", {}, "Needs attention"), list, h("h2", {}, "Health"), health);
	const refresh = () => {
		const items = attention(found);
		list.replaceChildren(...(items.length ? items : [h("li", {class: "good"}, "Nothing.")]));
	};
	follow(signal, 2000, async () => {
		await lookAtQueues(signal);
		const now = rates(total.samples);
		counts.fill([...STATES.map((state) => total.jobs[state]), rate(now.taken), rate(now.left)]);
		draw(line, total.samples, flow("taken"), flow("left"));
		refresh();
	});
	follow(signal, 5000, async () => {
		try {
			const log = await read("/v1/log", {signal});
			try {
				found = await metricsNow(signal);
				health.replaceChildren(healthFacts(found, log));
			} catch (error) {
				if (error.status !== 403) throw error;
				health.replaceChildren(facts(positions(log)), soft("More with a token that has the scope metrics."));
			}
		} finally {
			refresh();
		}
	});
}

/* ---- queues --------------------------------------------------------------------------------------------------------------------------- */

const jobsColumn = (state) => ({title: state, n: true, sort: (q) => q.info.jobs[state], cell: (q) => show(q.info.jobs[state])});

function queueList(main, signal) {
	const filter = h("input", {type: "search", placeholder: "part of a name", "aria-label": "Show queues whose name has", oninput: () => fill()});
	const rows = table("Queues", [
		{title: "queue", sort: (q) => q.info.name, cell: (q, cell) => {
			if (!cell.firstChild) cell.append(queueLink(q.info.name), " ", h("span", {class: "warn tag"}, "paused"));
			cell.lastChild.hidden = !q.info.paused;
		}},
		...STATES.map(jobsColumn),
		{title: "in /s", n: true, sort: (q) => rates(q.samples).taken || 0, cell: (q) => rate(rates(q.samples).taken)},
		{title: "out /s", n: true, sort: (q) => rates(q.samples).left || 0, cell: (q) => rate(rates(q.samples).left)},
		{title: "waiting", cell: (q, cell) => {
			if (!cell.firstChild) cell.append(chart());
			draw(cell.firstChild, q.samples, level("waiting"));
		}},
	], (q) => q.info.name, {by: 0, down: false});
	const note = h("span", {class: "soft"});
	const fill = () => {
		const wanted = filter.value.toLowerCase(), shown = [...queues.values()].filter((q) => q.info.name.toLowerCase().includes(wanted));
		rows.fill(shown);
		say(note, queues.size === shown.length ? plural(queues.size, "queue") : `${show(shown.length)} of ${plural(queues.size, "queue")}`);
	};
	main.append(heading("Queues"), h("div", {class: "bar"}, filter, note), rows.element);
	follow(signal, 2000, async () => {
		await lookAtQueues(signal);
		fill();
	});
}

function configuration(info) {
	const rest = Object.entries(info).filter(([name]) => !["name", "jobs", "paused", "submitted"].includes(name));
	return facts([["submitted", info.submitted], ...rest.map(([name, value]) =>
		[name.replace(/_/g, " "), name === "dead_letter" && value ? queueLink(value) : Array.isArray(value) ? value.join(", ") : value])]);
}

function queue(main, signal, [name], filter) {
	const at = path("v1", "queues", name), tag = h("span", {class: "tag warn", hidden: true}, "paused");
	const states = cards(STATES, (state) => place(["queues", name], {...filter, state: filter.state === state ? "" : state}));
	states.parts.forEach((p, i) => (filter.state || "").split(",").includes(STATES[i]) && p.element.setAttribute("aria-current", "true"));
	const queued = () => {
		const known = queues.get(name)?.info.jobs;
		return known ? `, ${show(unfinished(known) - known.running)} at present` : "";
	};
	const now = h("span", {class: "soft"}), line = chart(true), config = h("div"), target = h("div"), act = (verb, values) => ask("POST", at + "/" + verb + query(values));
	main.append(heading("Queue ", name, " ", tag), states.element,
		h("div", {class: "panel"}, now, line),
		h("div", {class: "bar"},
			button("Pause", "admin", name, async () => (await act("pause"), `${name} is paused: nothing of it is given out`)),
			button("Resume", "admin", name, async () => (await act("resume"), `${name} goes on`)),
			button("Kick…", "admin", name, async () => `${plural((await (await act("kick")).json()).count, "job")} made ready`,
				{confirm: () => ({title: `Kick ${name}?`, text: "Its buried jobs become ready; if there are none, its delayed ones.", action: "Kick"})}),
			button("Purge…", "admin", name, async () => `${plural((await (await act("purge")).json()).count, "job")} cancelled`,
				{danger: true, confirm: () => ({title: `Purge ${name}?`, text: `All jobs that wait in it are cancelled: ready, delayed and buried${queued()}. This cannot be undone.`, action: "Purge", danger: true})}),
			button("Remove…", "admin", name, async () => {
				await ask("DELETE", at);
				location.hash = "#/queues";
				return `${name} is removed`;
			}, {danger: true, confirm: () => ({title: `Remove ${name}?`, text: "Only a queue without unfinished jobs can be removed. Its configuration goes with it.", action: "Remove", danger: true})})),
		h("details", {ontoggle: (event) => event.target.open && !target.firstChild && read(at + "/target", {signal}).then(
			(found) => target.replaceChildren(h("h2", {}, "Pushed to"), backendTable([{...found, name}]).element), () => target.replaceChildren(soft("Not pushed.")))},
		h("summary", {}, "Configuration"), h("div", {class: "panel"}, config, target)),
		h("h2", {}, "Jobs"));
	jobList(main, signal, name, filter);
	follow(signal, 2000, async () => {
		const info = await read(at, {signal});
		remember([info], false);
		const {samples} = queues.get(name), r = rates(samples);
		states.fill(STATES.map((state) => info.jobs[state]));
		tag.hidden = !info.paused;
		say(now, `in ${rate(r.taken)}/s, out ${rate(r.left)}/s; waiting:`);
		draw(line, samples, level("waiting"));
		config.replaceChildren(configuration(info));
	});
}

/* ---- jobs of a queue ------------------------------------------------------------------------------------------------------------------ */

const PAGE = 50;
const errors = new Map(); /* "id attempts": the newest error */

function filterForm(name, filter) {
	const field = (label, key, size, hint) => h("label", {}, label, h("input", {name: key, value: filter[key] || "", size, placeholder: hint, autocomplete: "off"}));
	return h("form", {class: "bar", role: "search", "aria-label": "Choose jobs", onsubmit: (event) => {
		event.preventDefault();
		location.hash = place(["queues", name], Object.fromEntries(new FormData(event.target)));
	}},
	h("label", {}, "state", h("select", {name: "state"}, h("option", {value: ""}, "any"), [...STATES, "failed,buried"].map((state) => h("option", {value: state, selected: state === filter.state}, state)))),
	h("label", {}, h("input", {type: "checkbox", name: "dead", value: "true", checked: filter.dead === "true"}), "dead letters only"),
	field("error has", "error", 16), field("older than", "older", 5, "1h"), field("newer than", "newer", 5, "10m"), field("ids from", "from", 6), field("until", "until", 6),
	h("button", {}, "Choose"));
}

/* What can be done to jobs of which states, and how the rest of it is said. */
const MANY = [
	{verb: "replay", label: "Replay", from: ["failed", "buried", "delayed", "ready"], text: "They become ready, with none of their attempts begun; dead ones go back to where they came from.", done: "called back"},
	{verb: "kick", label: "Kick", from: ["buried", "delayed"], text: "They become ready now.", done: "made ready"},
	{verb: "move", label: "Move", from: WAITING, text: "They go to another queue, as they are.", done: "moved", input: true},
	{verb: "purge", label: "Delete", from: [...WAITING, ...FINISHED], text: "Those that wait are cancelled, finished ones are forgotten. This cannot be undone.", done: "deleted", danger: true},
];

function jobList(main, signal, name, filter) {
	const picked = new Set(), now = new Map(); /* ids; id: state, of this page as it is now */
	const bar = h("div", {class: "bar"}), said = h("span", {class: "soft"}), {state, ...rest} = filter;
	let after, next = null, pages = [];
	const all = h("input", {type: "checkbox", "aria-label": "Pick all of this page", onchange: () => {
		for (const box of rows.element.querySelectorAll("td.pick input")) box.checked !== all.checked && box.click();
	}});
	const rows = table("Jobs", [
		{title: all, pick: true, class: "pick", cell: (job, cell) => {
			if (!cell.firstChild) cell.append(h("input", {type: "checkbox", "aria-label": `Pick job ${job.id}`, onchange: (event) => {
				event.target.checked ? picked.add(job.id) : picked.delete(job.id);
				label();
			}}));
		}},
		{title: "job", cell: (job, cell) => cell.firstChild ? undefined : jobLink(job.id)},
		{title: "state", cell: (job, cell) => cell.textContent === job.state + (job.dead ? " dead" : "") ? undefined : [stateTag(job.state), job.dead && " dead"]},
		{title: "priority", n: true, cell: (job) => show(job.priority)},
		{title: "attempts", n: true, cell: (job) => show(job.attempts)},
		{title: "when", cell: (job) => job.run_at ? ["due ", when(job.run_at)] : job.deadline ? ["lease ends ", when(job.deadline)] : job.expires_at ? ["forgotten ", when(job.expires_at)] : "–"},
		{title: "newest error", class: "error", cell: (job) => errors.get(`${job.id} ${job.attempts}`) || ""},
	], (job) => job.id);

	async function run({verb, from, done, input}, to) {
		const states = (wanted) => wanted.filter((s) => from.includes(s)), values = {...rest, ...(input ? {to} : {})};
		const groups = picked.size ? [WAITING, FINISHED].map((group) => [...picked].filter((id) => group.includes(now.get(id)) && from.includes(now.get(id)))).filter((g) => g.length) : [null];
		let count = 0;
		for (const group of groups) {
			const chosen = group ? [...new Set(group.map((id) => now.get(id)))] : state ? states(state.split(",")) : [];
			const answer = await ask("POST", path("v1", "queues", name, verb) + query(group ? {...(input ? {to} : {}), state: chosen.join(",")} : {...values, state: chosen.join(",")}),
				group ? {json: {ids: group}} : {});
			count += (await answer.json()).count;
		}
		picked.clear();
		for (const box of rows.element.querySelectorAll("input:checked")) box.checked = false;
		label();
		return `${plural(count, "job")} ${done}`;
	}

	let labels;

	/* made anew only when it says something else, so that nobody clicks beside it */
	function label() {
		const text = [...picked].map((id) => now.get(id)).sort().join() + refused.size;
		if (labels === text) return;
		labels = text;
		bar.replaceChildren(...MANY.map((what) => {
			const possible = picked.size ? [...picked].some((id) => what.from.includes(now.get(id))) : !state || state.split(",").every((s) => what.from.includes(s));
			const of = picked.size ? `${what.label} ${picked.size}…` : `${what.label} all that match…`;
			const element = button(of, "admin", name, (to) => run(what, to), {danger: what.danger, confirm: () => ({
				title: `${what.label} ${picked.size ? plural(picked.size, "job") : "all jobs that match"}?`, text: what.text, action: what.label, danger: what.danger,
				input: what.input && {label: "To the queue", name: "to", list: "queue-names"},
			})});
			element.disabled ||= !possible;
			return element;
		}), said);
	}

	async function explain(jobs) {
		if (errors.size > 5000) errors.clear();
		const wanted = jobs.filter((job) => (job.dead || job.attempts > 0 && job.state !== "done" && job.state !== "running") && !errors.has(`${job.id} ${job.attempts}`));
		await each(wanted, 4, async (job) => {
			try {
				errors.set(`${job.id} ${job.attempts}`, ((await read(path("v1", "jobs", String(job.id)), {signal})).errors.at(-1)?.message || "").slice(0, 300));
			} catch (error) {
				if (!(error instanceof Refusal)) throw error; /* it has gone meanwhile */
			}
		});
	}

	const turn = (to) => {
		after = to;
		picked.clear();
		label();
		view.again();
	};
	const first = h("button", {type: "button", onclick: () => turn(pages.pop())}, "Page before"), later = h("button", {type: "button", onclick: () => {
		pages.push(after);
		turn(next);
	}}, "Next page");
	label();
	main.append(filterForm(name, filter), bar, rows.element, h("div", {class: "bar"}, first, later));
	follow(signal, 2500, async () => {
		const page = await read(path("v1", "queues", name, "jobs") + query({...filter, limit: PAGE, after}), {signal});
		next = page.next;
		first.hidden = !pages.length;
		later.hidden = !next;
		now.clear();
		for (const job of page.jobs) now.set(job.id, job.state);
		for (const id of picked) now.has(id) || picked.delete(id);
		label();
		rows.fill(page.jobs);
		say(said, page.jobs.length ? "" : "There is none here.");
		await explain(page.jobs);
		rows.fill(page.jobs);
	});
}

/* ---- one job -------------------------------------------------------------------------------------------------------------------------- */

async function* events(at, signal) {
	const answer = await ask("GET", at, {signal, headers: {Accept: "text/event-stream"}});
	if (answer.status !== 200) return;
	const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
	try {
		for (let text = "", chunk; !(chunk = await reader.read()).done;) {
			text += chunk.value;
			for (let end; (end = text.indexOf("\n\n")) >= 0; text = text.slice(end + 2)) {
				const lines = text.slice(0, end).split("\n");
				const field = (name) => lines.filter((line) => line.startsWith(name + ": ")).map((line) => line.slice(name.length + 2)).join("\n");
				if (field("data")) yield {event: field("event"), data: JSON.parse(field("data"))};
			}
		}
	} finally {
		reader.cancel().catch(() => {});
	}
}

/* The beginning of a body, as text or as bytes; never as what it says it is. */
async function preview(at, size, signal, foreign) {
	const answer = await ask("GET", at, {signal, foreign}), reader = answer.body?.getReader(), parts = [];
	let length = 0;
	for (let chunk; reader && length < PREVIEW_BYTES && !(chunk = await reader.read()).done; length += chunk.value.length) parts.push(chunk.value);
	reader?.cancel().catch(() => {});
	const data = new Uint8Array(await new Blob(parts).arrayBuffer()).subarray(0, PREVIEW_BYTES), type = answer.headers.get("Content-Type") || "no type";
	const whole = length <= PREVIEW_BYTES && length >= size, attributes = [...answer.headers].filter(([name]) => name.startsWith("ce-"));
	let text = new TextDecoder().decode(data);
	const strange = [...text].filter((c) => c === "\ufffd" || c < " " && !"\t\r\n".includes(c)).length;
	if (strange > text.length / 50) {
		text = Array.from({length: Math.ceil(Math.min(data.length, 512) / 16)}, (_, i) => {
			const row = [...data.subarray(16 * i, Math.min(16 * i + 16, 512))];
			return `${(16 * i).toString(16).padStart(4, "0")}  ${row.map((b) => b.toString(16).padStart(2, "0")).join(" ").padEnd(48)} ${row.map((b) => b > 32 && b < 127 ? String.fromCharCode(b) : ".").join("")}`;
		}).join("\n");
	} else if (whole && /[/+]json\b/.test(type)) {
		try {
			text = JSON.stringify(JSON.parse(text), null, 2);
		} catch {
			/* it is not what it says: as it is */
		}
	}
	return [soft(`${type}, ${bytes(size)}${whole ? "" : "; the beginning"}${answer.status === 200 ? "" : `; status ${answer.status}`}`),
		attributes.length > 0 && facts(attributes), h("pre", {tabindex: "0"}, text || "(empty)")];
}

function body(title, at, size, signal, foreign) {
	const box = h("div", {class: "panel"});
	preview(at, size, signal, foreign).then((nodes) => box.replaceChildren(...nodes.filter(Boolean)), (error) => box.replaceChildren(soft(error.message)));
	return [h("h2", {}, title), box];
}

function jobActions(job) {
	const at = path("v1", "jobs", String(job.id)), of = path("v1", "queues", job.queue), ids = {json: {ids: [job.id]}}, {queue: name, state} = job;
	const many = (verb, values, done) => async (to) => {
		const {count} = await (await ask("POST", `${of}/${verb}${query({...values, ...(typeof to === "string" ? {to} : {})})}`, ids)).json();
		if (!count) throw new Error("it is not in that state any more");
		return `Job ${job.id} ${done}`;
	};
	const bar = h("div", {class: "bar"});
	if (state === "failed" || state === "buried" || job.dead_from && WAITING.includes(state)) bar.append(button("Replay", "admin", name, many("replay", {}, "called back")));
	if (state === "delayed" || state === "buried") bar.append(button("Run now", "admin", name, async () => (await ask("POST", at + "/kick"), `Job ${job.id} is ready`)));
	if (WAITING.includes(state)) bar.append(button("Move…", "admin", name, many("move", {}, "moved"), {confirm: () => ({title: `Move job ${job.id}?`, text: "It goes to another queue, as it is.", action: "Move", input: {label: "To the queue", name: "to", list: "queue-names"}})}));
	if (WAITING.includes(state) || state === "running") bar.append(button("Priority…", "submit", name, async (priority) => {
		await ask("PATCH", at, {json: {priority: Number(priority)}, headers: {"Content-Type": "application/merge-patch+json"}});
		return `Job ${job.id} has the priority ${priority}`;
	}, {confirm: () => ({title: "Another priority?", text: "0 is served first; 1024 is usual.", action: "Set", input: {label: "Priority", name: "priority", type: "number"}})}));
	if (!FINISHED.includes(state)) bar.append(button("Cancel…", "submit", name, async () => (await ask("DELETE", at), `Job ${job.id} is cancelled, or will be as soon as its worker learns of it`),
		{danger: true, confirm: () => ({title: `Cancel job ${job.id}?`, text: state === "running" ? "Its worker learns of it at its next call." : "It will not be run.", action: "Cancel the job", danger: true})}));
	if (FINISHED.includes(state)) bar.append(button("Delete…", "admin", name, many("purge", {state}, "forgotten"),
		{danger: true, confirm: () => ({title: `Delete job ${job.id}?`, text: "It is forgotten, with its payload, result and errors.", action: "Delete", danger: true})}));
	return bar;
}

function jobFacts(job) {
	const known = ["id", "queue", "state", "errors", "result", "progress", "created_at", "run_at", "deadline", "finished_at", "expires_at", "dead_from", "bytes", "attempts", "attempts_max", "cancel_requested"];
	return facts([
		["queue", queueLink(job.queue)], ["attempts", `${show(job.attempts)} of ${job.attempts_max ?? "any number"}`],
		["created", when(job.created_at)], job.run_at && ["due", when(job.run_at)], job.deadline && ["lease ends", when(job.deadline)],
		job.finished_at && ["finished", when(job.finished_at)], job.expires_at && ["must begin", when(job.expires_at)],
		job.dead_from && ["dead letter of", queueLink(job.dead_from)], job.cancel_requested && ["cancellation", "asked for"],
		...Object.entries(job).filter(([name, value]) => !known.includes(name) && value !== null).map(([name, value]) => [name.replace(/_/g, " "), typeof value === "object" ? JSON.stringify(value) : value]),
		job.progress !== null && ["progress", JSON.stringify(job.progress)],
	]);
}

function job(main, signal, [id]) {
	const top = h("div"), attempts = h("div"), payload = h("div"), result = h("div"), at = path("v1", "jobs", id);
	let shown = "", payloadShown = false, resultShown = false;
	main.append(heading("Job ", id), top, attempts, payload, result);
	const put = (job) => {
		const text = JSON.stringify(job);
		if (text === shown) return;
		shown = text;
		top.replaceChildren(h("p", {}, stateTag(job.state)), jobActions(job), h("div", {class: "panel"}, jobFacts(job)));
		attempts.replaceChildren(h("h2", {}, "Attempts that failed"), job.errors.length ? h("ol", {class: "panel", reversed: true}, job.errors.toReversed().map((e) =>
			h("li", {value: String(e.attempt)}, when(e.at), h("pre", {tabindex: "0"}, e.message || "(it said nothing)")))) : soft("None."));
		if (!payloadShown) payload.replaceChildren(...body("Payload", at + "/payload", job.bytes, signal));
		payloadShown = true;
		if (job.result && !resultShown) result.replaceChildren(...body("Result", at + "/result", job.result.bytes, signal, true));
		else if (!job.result) result.replaceChildren();
		resultShown = Boolean(job.result);
	};
	/* while it is under way told by the server; an ended stream is opened again after a while, or an action */
	follow(signal, 5000, async () => {
		try {
			put(await read(at, {signal}));
			for await (const {data} of events(at, signal)) {
				if (data.state === null) break;
				put(data);
			}
		} catch (error) {
			if (![404, 410].includes(error.status)) throw error;
			top.replaceChildren(soft(error.message));
			attempts.replaceChildren();
		}
	});
}

/* ---- failures ------------------------------------------------------------------------------------------------------------------------- */

function failures(main, signal) {
	const deadOf = new Map(), letters = (q) => deadOf.has(q.info.name) ? unfinished(q.info.jobs) : 0;
	const replay = (q) => button("Replay all…", "admin", q.info.name, async () => {
		const {count} = await (await ask("POST", path("v1", "queues", q.info.name, "replay"))).json();
		return `${plural(count, "job")} of ${q.info.name} called back`;
	}, {confirm: () => ({title: `Replay what failed in ${q.info.name}?`, text: "Its failed, buried and dead jobs become ready, with none of their attempts begun; dead ones go back to where they came from.", action: "Replay"})});
	const count = (name, state) => (q) => q.info.jobs[state] ? h("a", {href: place(["queues", q.info.name], {state})}, show(q.info.jobs[state])) : "0";
	const rows = table("Queues with jobs that failed, were buried, or are dead letters", [
		{title: "queue", sort: (q) => q.info.name, cell: (q, cell) => cell.firstChild ? undefined : queueLink(q.info.name)},
		{title: "failed", n: true, sort: (q) => q.info.jobs.failed, cell: count("failed", "failed")},
		{title: "buried", n: true, sort: (q) => q.info.jobs.buried, cell: count("buried", "buried")},
		{title: "dead letters", n: true, sort: letters, cell: (q) => letters(q) ? h("a", {href: place(["queues", q.info.name], {dead: "true"})}, show(letters(q))) : "0"},
		{title: "from", cell: (q) => (deadOf.get(q.info.name) || []).slice(0, 5).map((name) => [queueLink(name), " "])},
		{title: "", cell: (q, cell) => cell.firstChild ? undefined : replay(q)},
	], (q) => q.info.name, {by: 0, down: false});
	const none = soft("Nothing has failed that is still kept.");
	main.append(heading("Failures"), none, rows.element);
	follow(signal, 2500, async () => {
		await lookAtQueues(signal);
		deadOf.clear();
		for (const {info} of queues.values()) if (info.dead_letter) deadOf.set(info.dead_letter, [...(deadOf.get(info.dead_letter) || []), info.name]);
		const shown = [...queues.values()].filter((q) => q.info.jobs.failed || q.info.jobs.buried || letters(q));
		none.hidden = shown.length > 0;
		rows.element.hidden = !shown.length;
		rows.fill(shown);
	});
}

/* ---- topics --------------------------------------------------------------------------------------------------------------------------- */

function topicList(main, signal) {
	const rows = table("Topics", [
		{title: "topic", sort: (t) => t.name, cell: (t, cell) => cell.firstChild ? undefined : link(t.name, "topics", t.name)},
		{title: "subscriptions", n: true, sort: (t) => t.subscriptions.length, cell: (t) => show(t.subscriptions.length)},
		{title: "events kept", n: true, sort: (t) => t.events, cell: (t) => show(t.events)},
		{title: "for", cell: (t) => t.retention},
	], (t) => t.name, {by: 0, down: false});
	const none = soft("There is no topic. PUT /v1/topics/{topic} makes one.");
	main.append(heading("Topics"), none, rows.element);
	follow(signal, 3000, async () => {
		const topics = await readAll("/v1/topics", "topics", {signal});
		none.hidden = topics.length > 0;
		rows.element.hidden = !topics.length;
		rows.fill(topics);
	});
}

function topic(main, signal, [name]) {
	const about = h("div", {class: "panel"}), at = path("v1", "topics", name), jobs = new Map();
	const count = (state) => (s) => show(jobs.get(s.queue)?.[state]);
	const rows = table("Subscriptions", [
		{title: "subscription", sort: (s) => s.name, cell: (s) => s.name},
		{title: "queue", cell: (s, cell) => cell.textContent === s.queue ? undefined : queueLink(s.queue)},
		...["ready", "delayed", "running", "failed", "buried"].map((state) => ({title: state, n: true, sort: (s) => jobs.get(s.queue)?.[state] || 0, cell: count(state)})),
		{title: "replay", cell: (s) => s.replay ? `${show(s.replay.left)} left` : "–"},
		{title: "filters", cell: (s) => s.filters?.length ? JSON.stringify(s.filters) : "–"},
		{title: "", cell: (s, cell) => cell.firstChild ? undefined : button("Replay…", "admin", name, async () => {
			await ask("POST", path("v1", "topics", name, "subscriptions", s.name, "replay"));
			return `What ${name} keeps is handed over to ${s.name} again`;
		}, {confirm: () => ({title: `Replay to ${s.name}?`, text: "All events that the topic keeps and the subscription wants are handed over to it once more.", action: "Replay"})})},
	], (s) => s.name, {by: 0, down: false});
	main.append(heading("Topic ", name), about, rows.element);
	follow(signal, 3000, async () => {
		const found = await read(at, {signal}), subscriptions = [];
		about.replaceChildren(facts([["events kept", found.events], ["for", found.retention], ["at most", found.events_max ?? "no limit of its own"], ["subscriptions", found.subscriptions.length]]));
		await each(found.subscriptions.slice(0, ROWS), 4, async (s) => {
			const subscription = await read(path("v1", "topics", name, "subscriptions", s), {signal});
			subscriptions.push(subscription);
			try {
				jobs.set(subscription.queue, (await read(path("v1", "queues", subscription.queue), {signal})).jobs);
			} catch (error) {
				if (!(error instanceof Refusal)) throw error; /* not there yet, or not for this token */
			}
		});
		rows.fill(subscriptions);
	});
}

/* ---- services ------------------------------------------------------------------------------------------------------------------------- */

function backendTable(services) {
	const rows = table("Backends", [
		{title: "service", sort: (b) => b.of, cell: (b) => b.of},
		{title: "backend", sort: (b) => b.url, cell: (b) => b.url},
		{title: "state", sort: (b) => b.state, cell: (b, cell) => cell.textContent === b.state ? undefined : h("span", {class: "tag " + (b.state === "up" ? "good" : b.state === "trial" ? "warn" : "bad")}, b.state)},
		...["outstanding", "calls", "failures", "failures_in_a_row", "circuits_opened", "checks_failed"].map((name) => ({title: name.replace(/_/g, " "), n: true, sort: (b) => b[name], cell: (b) => show(b[name])})),
		{title: "newest error", class: "error", cell: (b) => b.last_error || ""},
	], (b) => `${b.of} ${b.url}`);
	const fill = (list) => rows.fill(list.flatMap((service) => (service.backends || []).map((b) => ({...b, of: service.name}))));
	fill(services);
	return {element: rows.element, fill};
}

function services(main, signal) {
	const backends = backendTable([]), none = soft("There is no service. PUT /v1/services/{name} makes one, and serve --service NAME=URL.");
	const rows = table("Services", [
		{title: "service", sort: (s) => s.name, cell: (s) => s.name},
		{title: "recorded calls", cell: (s, cell) => cell.firstChild ? undefined : queueLink("call/" + s.name)},
		{title: "concurrency", n: true, cell: (s) => show(s.concurrency)}, {title: "attempts", n: true, cell: (s) => show(s.attempts)},
		{title: "timeout", cell: (s) => s.timeout}, {title: "records all", cell: (s) => s.record ? "yes" : "no"},
		{title: "circuit opens", cell: (s) => s.breaker ? s.breaker.failures ? `after ${s.breaker.failures}, for ${s.breaker.open}` : "never" : "–"},
		{title: "health check", cell: (s) => s.health ? `${s.health.path} every ${s.health.interval}` : "none"},
	], (s) => s.name, {by: 0, down: false});
	main.append(heading("Services"), none, h("div", {class: "both"}, rows.element, h("h2", {}, "Backends"), backends.element));
	follow(signal, 3000, async () => {
		const found = await readAll("/v1/services", "services", {signal}), whole = [];
		await each(found.slice(0, ROWS), 4, async (s) => whole.push(await read(path("v1", "services", s.name), {signal})));
		whole.sort((a, b) => a.name.localeCompare(b.name));
		none.hidden = whole.length > 0;
		main.lastChild.hidden = !whole.length;
		rows.fill(whole);
		backends.fill(whole);
	});
}

/* ---- schedules ------------------------------------------------------------------------------------------------------------------------ */

function schedules(main, signal) {
	const at = (s) => path("v1", "schedules", s.name), none = soft("There is no schedule. PUT /v1/schedules/{name} makes one, and whilst schedule put.");
	const rows = table("Schedules", [
		{title: "schedule", sort: (s) => s.name, cell: (s) => s.name},
		{title: "when", cell: (s) => s.every ? `every ${s.every}` : `${s.cron} ${s.time_zone || "UTC"}`},
		{title: "queue or topic", cell: (s, cell) => {
			const name = s.publish ? s.publish.topic : s.job.queue;
			return cell.textContent === name ? undefined : s.publish ? link(name, "topics", name) : queueLink(name);
		}},
		{title: "next", sort: (s) => s.next[0] || "~", cell: (s) => s.paused ? h("span", {class: "tag warn"}, "paused") : s.next.length ? when(s.next[0]) : "–"},
		{title: "last", cell: (s) => s.last ? [when(s.last.at), " ", s.last.job ? jobLink(s.last.job) : s.last.event || ""] : "–"},
		{title: "runs", n: true, sort: (s) => s.runs, cell: (s) => show(s.runs)},
		{title: "refused for", class: "error", cell: (s, cell) => {
			cell.classList.toggle("bad", Boolean(s.error));
			return s.error || "";
		}},
		{title: "", cell: (s, cell) => {
			if (cell.firstChild && cell.dataset.paused === String(s.paused)) return undefined;
			cell.dataset.paused = s.paused;
			return [button("Run now", "admin", s.name, async () => {
				const made = await (await ask("POST", at(s) + "/run")).json();
				return s.publish ? `${s.name}: event published, ${plural(made.jobs, "job")}` : `${s.name}: job ${made.id ?? ""} submitted`;
			}), " ",
				button(s.paused ? "Resume" : "Pause", "admin", s.name, async () => {
					await ask("PUT", at(s), {json: {...await read(at(s)), paused: !s.paused}});
					return `${s.name} ${s.paused ? "goes on" : "is paused"}`;
				})];
		}},
	], (s) => s.name, {by: 0, down: false});
	main.append(heading("Schedules"), none, rows.element);
	follow(signal, 3000, async () => {
		const found = await readAll("/v1/schedules", "schedules", {signal});
		none.hidden = found.length > 0;
		rows.element.hidden = !found.length;
		rows.fill(found);
	});
}

/* ---- the log -------------------------------------------------------------------------------------------------------------------------- */

function logFacts(found) {
	const value = (name) => found.get("whilst_" + name) || 0, p = (name, labels, q) => quantile(found, "whilst_" + name, labels, q);
	const within = (name, labels) => p(name, labels, 0.5) ? `half within ${seconds(p(name, labels, 0.5))}, 99 % within ${seconds(p(name, labels, 0.99))}` : "none yet";
	return facts([
		["flushes", within("log_flush_seconds", "")], ["commits at local", within("commit_seconds", 'level="local",')], ["commits at async", within("commit_seconds", 'level="async",')],
		["not flushed", `${bytes(value("log_unsynced_bytes"))}, the oldest ${seconds(value("log_unsynced_age_seconds"))} old`],
		["written", bytes(value("log_written_bytes_total"))], ["on disk", `${bytes(value("log_disk_bytes"))} in ${plural(value("log_segments"), "segment")}`],
		["needed of it", `${bytes(value("log_live_bytes"))}, about ${(100 * value("log_live_ratio")).toFixed(0)} %`],
		["since the checkpoint", `${bytes(value("log_since_checkpoint_bytes"))}, which a start would read`],
		["newest checkpoint", `${bytes(value("checkpoint_bytes"))} in ${seconds(value("checkpoint_seconds"))}`],
		["bodies in files", `${show(value("blobs"))}, ${bytes(value("blob_bytes"))}`], ["idempotency keys", value("idempotency_keys")],
		["disk", value("disk_full") ? "full: new jobs are refused" : "has room"],
	]);
}

function log(main, signal) {
	const where = h("div", {class: "panel"}), more = h("div", {class: "panel"}), epochs = table("Epochs that have ended", [
		{title: "epoch", cell: (e) => String(e.epoch)}, {title: "ended at", cell: (e) => String(e.end)}], (e) => e.epoch);
	main.append(heading("Log"), where, more, epochs.element);
	follow(signal, 2000, async () => {
		const found = await read("/v1/log", {signal});
		where.replaceChildren(facts([["epoch", found.epoch], ...positions(found)]));
		epochs.fill(found.epochs.toReversed());
		try {
			more.replaceChildren(logFacts(await metricsNow(signal)));
		} catch (error) {
			if (error.status !== 403) throw error;
			more.replaceChildren(soft("More with a token that has the scope metrics."));
		}
	});
}

/* ---- where we are --------------------------------------------------------------------------------------------------------------------- */

const PLACES = {
	"": overview, queues: (main, signal, parts, values) => parts.length ? queue(main, signal, parts, values) : queueList(main, signal),
	jobs: (main, signal, parts) => job(main, signal, parts), failures, services, schedules, log,
	topics: (main, signal, parts) => parts.length ? topic(main, signal, parts) : topicList(main, signal),
};

function open() {
	const [at, values] = location.hash.replace(/^#\/?/, "").split("?"), controller = new AbortController(), main = $("main");
	const known = (name) => Object.hasOwn(PLACES, name);
	let parts;
	view?.end();
	view = {signal: controller.signal, end: () => controller.abort()};
	main.replaceChildren();
	try {
		parts = at.split("/").filter(Boolean).map(decodeURIComponent);
		const first = parts[0] || "";
		if (!known(first)) throw new Error("there is nothing at this place");
		for (const a of document.querySelectorAll("nav a")) {
			if (a.hash === "#/" + (first === "jobs" ? "queues" : first)) a.setAttribute("aria-current", "page");
			else a.removeAttribute("aria-current");
		}
		PLACES[first](main, controller.signal, parts.slice(1), Object.fromEntries(new URLSearchParams(values)));
	} catch (error) {
		main.replaceChildren(heading("Nothing here"), soft(error.message));
	}
	document.title = (main.querySelector("h1")?.textContent || "whilst") + " – whilst";
}

window.addEventListener("hashchange", () => {
	open();
	$("main").focus();
});
$("skip").addEventListener("click", (event) => {
	event.preventDefault();
	$("main").focus();
});
$("go").addEventListener("submit", (event) => {
	const text = $("go-to").value.trim();
	event.preventDefault();
	if (text) location.hash = place([/^\d+$/.test(text) && !queues.has(text) ? "jobs" : "queues", text]);
	$("go-to").value = "";
});
$("token").addEventListener("click", () => {
	token = "";
	tokenless = false;
	refused.clear();
	showToken();
	queues.clear();
	total.samples = [];
	open();
});
open();
follow(new AbortController().signal, 3000, lookAtHealth);
