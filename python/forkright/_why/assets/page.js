// The timeline of the page. uPlot keeps the time axis, the cursor and the selection; the lanes are drawn here, pixel by
// pixel into one image, so that a frame costs the same however many pieces there are. Sections: pieces, rows, colours,
// drawing, moving, telling, keys and pointers, theme.
"use strict";
(async () => {
  const find = (id) => document.getElementById(id);
  const data = JSON.parse(find("data").textContent);
  const timeline = find("timeline"), plot = find("plot"), names = find("names"), tip = find("tip"), live = find("live");
  const root = document.documentElement;
  const AXIS = 28, MARGIN = 8;
  const HEIGHTS = { process: 24, gil: 22, thread: 28 };
  const NOTHING = 255;
  const SHORTEST = 20; // µs: the closest zoom
  const TALLEST = 8000; // px: what browsers surely make a canvas of
  const LABEL = 44; // px: narrower pieces have no name in them
  const end = Math.max(data.end, SHORTEST);

  // ------------------------------------------------------------------------------------------------------------ pieces

  // The sums of every so many pieces are kept, so that a column's total takes a bounded number of steps.
  const STRIDE = 16;

  class Lane {
    constructor(at, states, functions, kinds) {
      this.at = at; // one more than there are pieces: the last is the end
      this.states = states;
      this.functions = functions;
      this.count = states.length;
      this.kinds = kinds;
      this.totals = new Float64Array(kinds);
      this.sums = new Float64Array((Math.floor(this.count / STRIDE) + 1) * kinds);
      const running = new Float64Array(kinds);
      for (let i = 0; i < this.count; i++) {
        if (i % STRIDE === 0) this.sums.set(running, (i / STRIDE) * kinds);
        running[states[i]] += at[i + 1] - at[i];
      }
      if (this.count % STRIDE === 0) this.sums.set(running, (this.count / STRIDE) * kinds);
    }

    // The piece at a time: -1 before the first, `count` after the last.
    // `low` is a piece known not to be later, and best a near one.
    piece(time, low = 0) {
      const { at, count } = this;
      if (count === 0 || time < at[0]) return -1;
      if (time >= at[count]) return count;
      let high = low + 1;
      for (let stride = 2; high < count && at[high] <= time; stride *= 2) {
        low = high;
        high += stride;
      }
      high = Math.min(high, count) - 1;
      while (low < high) {
        const middle = (low + high + 1) >> 1;
        if (at[middle] <= time) low = middle;
        else high = middle - 1;
      }
      return low;
    }

    // How long each state took from one time to another, with the pieces in which these lie. The result is reused.
    measure(from, to, first, last) {
      const { at, states, totals, kinds, sums } = this;
      totals.fill(0);
      const begin = Math.max(first, 0), stop = Math.min(last, this.count - 1);
      if (begin > stop) return totals;
      if (begin === stop) {
        totals[states[begin]] = Math.min(to, at[begin + 1]) - Math.max(from, at[begin]);
        return totals;
      }
      totals[states[begin]] += at[begin + 1] - Math.max(from, at[begin]);
      totals[states[stop]] += Math.min(to, at[stop + 1]) - at[stop];
      let i = begin + 1;
      if (stop - i > 2 * STRIDE) {
        const block = Math.ceil(i / STRIDE), until = Math.floor(stop / STRIDE);
        for (; i < block * STRIDE; i++) totals[states[i]] += at[i + 1] - at[i];
        for (let kind = 0; kind < kinds; kind++) totals[kind] += sums[until * kinds + kind] - sums[block * kinds + kind];
        i = until * STRIDE;
      }
      for (; i < stop; i++) totals[states[i]] += at[i + 1] - at[i];
      return totals;
    }

    // The state of each pixel of the lane, column by column. Where two or three pieces meet, the longest gets the column;
    // where many share it, it is divided among their states, the first one at the bottom.
    columns(from, step, height, into) {
      const { at, states, count } = this;
      let i = this.piece(from);
      for (let start = 0, begin = from; start < into.length; start += height, begin += step) {
        const stop = begin + step;
        if (i >= count || count === 0 || stop <= at[0]) {
          into.fill(NOTHING, start, start + height);
        } else if (i >= 0 && at[i + 1] >= stop) {
          into.fill(states[i], start, start + height);
          if (at[i + 1] === stop) i++;
        } else {
          const next = this.piece(stop, Math.max(i, 0));
          const totals = this.measure(begin, stop, i, next);
          if (next - i > 2) divide(totals, step, into, start, height);
          else into.fill(longest(totals), start, start + height);
          i = next;
        }
      }
    }
  }

  function longest(totals) {
    let most = 0;
    for (let kind = 1; kind < totals.length; kind++) if (totals[kind] > totals[most]) most = kind;
    return totals[most] > 0 ? most : NOTHING;
  }

  function divide(totals, whole, into, start, height) {
    const scale = height / whole;
    let y = start + height, rest = y + 0.5; // half a pixel: cutting off what is behind the point then rounds
    for (let kind = 0; kind < totals.length; kind++) {
      if (totals[kind] === 0) continue;
      rest -= totals[kind] * scale;
      const until = Math.max(rest | 0, start);
      while (y > until) into[--y] = kind;
    }
    while (y > start) into[--y] = NOTHING;
  }

  async function unpack({ count, begin, packed }, kinds) {
    const text = atob(packed), bytes = new Uint8Array(text.length);
    for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    const buffer = await new Response(stream).arrayBuffer();
    const halves = new Uint32Array(buffer, 0, 2 * count), at = new Float64Array(count + 1);
    at[0] = begin;
    for (let i = 0; i < count; i++) at[i + 1] = at[i] + halves[2 * i] + halves[2 * i + 1] * 2 ** 32;
    return new Lane(at, new Uint8Array(buffer, 12 * count, count), new Int32Array(buffer, 8 * count, count), kinds);
  }

  // -------------------------------------------------------------------------------------------------------------- rows

  const rows = [];

  async function makeRows() {
    let top = 0;
    const add = (kind, row) => {
      rows.push({ kind, top, height: HEIGHTS[kind], ...row });
      top += HEIGHTS[kind];
      return rows.at(-1);
    };
    for (const [p, process] of data.processes.entries()) {
      add("process", { process, anchor: `process-${p}` });
      const threads = [];
      let gil = null;
      if (process.gil) gil = add("gil", { process, threads, lane: await unpack(process.gil, SHADES + 1) });
      for (const [t, thread] of process.threads.entries()) {
        const lane = await unpack(thread.pieces, data.states.length);
        threads.push(add("thread", { process, thread, gil, lane, anchor: `thread-${p}-${t}` }));
      }
    }
  }

  function nameRow(row) {
    const element = document.createElement(row.kind === "gil" ? "div" : "a");
    element.className = `row of-${row.kind}`;
    element.style.height = `${row.height}px`;
    const name = document.createElement("bdi");
    name.className = "name";
    name.textContent = row.kind === "gil" ? "GIL" : row.kind === "thread" ? row.thread.name : row.process.name;
    element.title = name.textContent;
    element.append(name);
    if (row.kind === "process") {
      const pid = document.createElement("small");
      pid.textContent = `pid ${row.process.pid}`;
      element.append(pid);
    }
    if (row.anchor) {
      element.href = `#${row.anchor}`;
      element.tabIndex = -1; // the arrow keys reach the lanes: a stop for each would be a long way to Tab
    }
    row.element = element;
    names.append(element);
  }

  // ----------------------------------------------------------------------------------------------------------- colours

  const SHADES = 4;
  const CELL = 8;
  // Where a state's second colour goes; `page.css` draws the same in the legend.
  const HATCHES = {
    held_blocked: (x, y) => y % 4 === 0,
    off_gil: (x, y) => x % 4 < 2 && y % 4 < 2,
    gil_wait: (x, y) => (x + y) % 8 < 2,
    lock_wait: (x, y) => (x + y) % 8 < 1 || (x - y + CELL) % 8 < 1,
    io: (x) => x % 8 < 1,
    unknown: (x, y) => (x < 4) !== (y < 4),
  };
  let colours;

  // Colours come from the style sheet, where `light-dark` has chosen; a probe resolves them.
  function readColours() {
    const probe = document.createElement("i"), pixel = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
    document.body.append(probe);
    const read = (name, otherwise) => {
      probe.style.color = `var(--${name}, var(--${otherwise}))`;
      return getComputedStyle(probe).color;
    };
    const number = (colour) => {
      pixel.fillStyle = colour;
      pixel.fillRect(0, 0, 1, 1);
      return new Uint32Array(pixel.getImageData(0, 0, 1, 1).data.buffer)[0];
    };
    // A power of two times the cell: a remainder is then a mask.
    const scale = 2 ** Math.max(0, Math.round(Math.log2(devicePixelRatio))), size = CELL * scale;
    const tile = (key, base, hatch) => {
      const pixels = new Uint32Array(size * size).fill(number(base));
      const draws = HATCHES[key] ?? (hatch === base ? null : HATCHES.unknown), ink = number(hatch);
      if (draws)
        for (let y = 0; y < size; y++)
          for (let x = 0; x < size; x++) if (draws(Math.floor(x / scale), Math.floor(y / scale))) pixels[y * size + x] = ink;
      return pixels;
    };
    const known = (key) => {
      const base = read(key, "unknown");
      return { base, text: read(`on-${key}`, "on-unknown"), tile: tile(key, base, read(`hatch-${key}`, "hatch-unknown")) };
    };
    const shade = (number) => {
      const base = read(`turn-${number}`, "text");
      return { base, text: read(`on-turn-${number}`, "sheet"), tile: tile("", base, base) };
    };
    const states = data.states.map(({ key }) => known(key));
    // The first is for a free GIL, which leaves its lane empty.
    const shades = [null, ...Array.from({ length: SHADES }, (_, number) => shade(number + 1))];
    // All tiles one after the other; what has none, as `NOTHING`, is transparent.
    const join = (all) => {
      const tiles = new Uint32Array((NOTHING + 1) * size * size);
      all.forEach((each, kind) => each && tiles.set(each.tile, kind * size * size));
      return tiles;
    };
    colours = {
      size, states, shades, stateTiles: join(states), shadeTiles: join(shades),
      text: read("text", "text"), faint: read("faint", "text"), line: read("line", "text"), sheet: read("sheet", "page"), raised: read("raised", "page"), accent: read("accent", "text"),
    };
    probe.remove();
  }

  // ----------------------------------------------------------------------------------------------------------- drawing

  const scratch = document.createElement("canvas");
  const view = { from: 0, to: end };
  let chosen = -1, cursor = null, chart, image, pixels, kinds;

  const palette = (row) => (row.kind === "gil" ? colours.shades : colours.states);

  function draw(u) {
    const { left, top, width, height } = u.bbox, ctx = u.ctx, ratio = uPlot.pxRatio;
    if (width < 1 || height < 1) return;
    if (!image || image.width !== width || image.height !== height) {
      scratch.width = width;
      scratch.height = height;
      image = new ImageData(width, height);
      pixels = new Uint32Array(image.data.buffer);
    }
    pixels.fill(0);
    const step = (view.to - view.from) / width, seen = visibleRows(height / ratio);
    for (const row of seen) {
      if (!row.lane) continue;
      const lane = Math.round((row.height - 7) * ratio), size = width * lane;
      if (!kinds || kinds.length < size) kinds = new Uint8Array(size);
      row.lane.columns(view.from, step, lane, kinds.subarray(0, size));
      paint(row.kind === "gil" ? colours.shadeTiles : colours.stateTiles, Math.round((row.top - timeline.scrollTop + 4) * ratio), lane, width, height);
    }
    const pen = scratch.getContext("2d");
    pen.putImageData(image, 0, 0);
    ctx.save();
    ctx.beginPath();
    ctx.rect(left, top, width, height);
    ctx.clip();
    drawBackground(ctx, seen, left, top, width, ratio);
    ctx.drawImage(scratch, left, top);
    ctx.translate(left, top);
    for (const row of seen) if (row.lane) drawLabels(ctx, row, width, step, ratio);
    for (const row of rows) if (row.kind === "gil") drawHandovers(ctx, row, width, step, ratio);
    ctx.restore();
  }

  function visibleRows(height) {
    const top = timeline.scrollTop;
    return rows.filter((row) => row.top + row.height > top && row.top < top + height);
  }

  // Puts the states in `kinds` into the image, in their colours. This is most of a frame's cost: it looks up and stores.
  function paint(tiles, top, height, width, bottom) {
    const { size } = colours, cell = size * size, last = size - 1;
    for (let y = Math.max(top, 0); y < Math.min(top + height, bottom); y++) {
      // Hatching belongs to the lane, not to the window: it stays when lanes scroll.
      const line = ((y - top) % size) * size, start = y * width;
      for (let x = 0, i = y - top; x < width; x++, i += height) pixels[start + x] = tiles[kinds[i] * cell + line + (x & last)];
    }
  }

  function drawBackground(ctx, seen, left, top, width, ratio) {
    for (const row of seen) {
      const y = top + Math.round((row.top - timeline.scrollTop) * ratio);
      if (row.kind === "process") {
        ctx.fillStyle = colours.raised;
        ctx.fillRect(left, y, width, row.height * ratio);
      } else if (rows[chosen] === row) {
        ctx.fillStyle = colours.accent;
        ctx.fillRect(left, y + 1, width, 2 * ratio);
        ctx.fillRect(left, y + (row.height - 2) * ratio, width, 2 * ratio);
      }
    }
  }

  function wordsOf(row, i) {
    if (row.kind === "gil") return row.threads[row.lane.functions[i]]?.thread.name ?? "";
    const number = row.lane.functions[i];
    return number >= 0 ? data.functions[number][0] : "";
  }

  // Looks every `LABEL` pixels: a piece that has room for its name can't lie between two looks.
  function drawLabels(ctx, row, width, step, ratio) {
    const { lane } = row, least = LABEL * ratio, y = (row.top - timeline.scrollTop + 4 + (row.height - 7) / 2) * ratio;
    ctx.font = `${11 * ratio}px system-ui, sans-serif`;
    ctx.textBaseline = "middle";
    ctx.textAlign = "left";
    for (let x = 0; x < width; ) {
      const i = lane.piece(view.from + x * step);
      if (i >= lane.count) return;
      const stop = Math.min(width, (lane.at[i + 1] - view.from) / step), start = i < 0 ? stop : Math.max(0, (lane.at[i] - view.from) / step);
      const words = stop - start < least ? "" : wordsOf(row, i), colour = words && palette(row)[lane.states[i]];
      if (colour) {
        const text = fit(ctx, words, stop - start - 12 * ratio);
        ctx.fillStyle = colour.base;
        ctx.fillRect(Math.round(start + 3 * ratio), y - 7 * ratio, Math.ceil(ctx.measureText(text).width + 6 * ratio), 14 * ratio);
        ctx.fillStyle = colour.text;
        ctx.fillText(text, start + 6 * ratio, y + ratio / 2);
      }
      x = Math.max(stop, x + least);
    }
  }

  const widths = new Map();

  // As much of a name as there is room for, kept from turning its neighbours' direction.
  function fit(ctx, words, room) {
    const key = words.slice(0, 200);
    if (!widths.has(key)) widths.set(key, ctx.measureText(key).width / uPlot.pxRatio);
    const width = widths.get(key) * uPlot.pxRatio, letters = Array.from(key);
    if (width <= room && key === words) return `\u2068${words}\u2069`;
    return `\u2068${letters.slice(0, Math.max(1, Math.floor((letters.length * room) / width) - 1)).join("")}…\u2069`;
  }

  function drawHandovers(ctx, row, width, step, ratio) {
    const { lane, threads } = row, first = Math.max(lane.piece(view.from), 0), last = Math.min(lane.piece(view.to), lane.count - 1);
    if (last - first > width / (14 * ratio)) return;
    for (let i = first + 1; i <= last; i++) {
      const giver = threads[lane.functions[i - 1]], taker = threads[lane.functions[i]];
      if (!giver || !taker) continue;
      const down = taker.top > giver.top, x = Math.round((lane.at[i] - view.from) / step) + 0.5;
      const from = (giver.top + (down ? giver.height - 4 : 5) - timeline.scrollTop) * ratio;
      const to = (taker.top + (down ? 4 : taker.height - 3) - timeline.scrollTop) * ratio;
      drawArrow(ctx, x, from, to, ratio);
    }
  }

  function drawArrow(ctx, x, from, to, ratio) {
    const head = 4 * ratio, way = Math.sign(to - from);
    ctx.lineJoin = "round";
    for (const [colour, width] of [[colours.sheet, 4.5 * ratio], [colours.text, 1.5 * ratio]]) {
      ctx.strokeStyle = ctx.fillStyle = colour;
      ctx.lineWidth = width;
      ctx.beginPath();
      ctx.moveTo(x, from);
      ctx.lineTo(x, to + way * head);
      ctx.moveTo(x - head, to);
      ctx.lineTo(x, to + way * head * 1.6);
      ctx.lineTo(x + head, to);
      ctx.stroke();
    }
  }

  // ------------------------------------------------------------------------------------------------------------ moving

  let waiting = false;

  // All changes of a frame are drawn once.
  function refresh() {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      chart.batch(() => {
        chart.setScale("x", { min: view.from, max: view.to });
        chart.redraw(false, true);
      });
      placeCursor();
    });
  }

  function show(from, to) {
    const width = Math.min(Math.max(to - from, SHORTEST), end);
    const middle = (from + to) / 2;
    view.from = Math.min(Math.max(to - from === width ? from : middle - width / 2, 0), end - width);
    view.to = view.from + width;
    timeline.dataset.from = view.from;
    timeline.dataset.to = view.to;
    find("range").textContent = `${time(view.from)} to ${time(view.to)}`;
    refresh();
  }

  const pan = (share) => {
    const way = share * (view.to - view.from), before = view.from;
    show(view.from + way, view.to + way);
    if (cursor !== null) cursor += view.from - before;
  };

  function zoom(factor, around) {
    const width = Math.min(Math.max((view.to - view.from) * factor, SHORTEST), end);
    const from = around - ((around - view.from) / (view.to - view.from)) * width;
    show(from, from + width);
  }

  // The time under the cursor; before there is one, the middle.
  const inView = () => Math.min(Math.max(cursor ?? (view.from + view.to) / 2, view.from), view.to);
  const moves = {
    left: () => pan(-0.2), right: () => pan(0.2),
    in: () => zoom(0.5, inView()), out: () => zoom(2, inView()), whole: () => show(0, end),
  };

  // Microseconds as people read them, in as many digits as `unit` µs take.
  function time(value, unit = (view.to - view.from) / 1000) {
    const [factor, name] = end >= 1e6 ? [1e6, "s"] : end >= 1e3 ? [1e3, "ms"] : [1, "µs"];
    const digits = Math.min(6, Math.max(0, Math.ceil(Math.log10(factor / Math.max(unit, 1)))));
    return `${(value / factor).toFixed(digits)} ${name}`;
  }

  function length(value) {
    const [factor, name] = value >= 1e6 ? [1e6, "s"] : value >= 1e3 ? [1e3, "ms"] : [1, "µs"];
    return `${Number((value / factor).toPrecision(3))} ${name}`;
  }

  // ----------------------------------------------------------------------------------------------------------- telling

  // What is at a time of a row, as lines: the first is the most important one.
  function describe(row, at) {
    if (row.kind === "process") return [row.process.name, `process ${row.process.pid}`];
    const { lane } = row, i = lane.piece(at), thread = row.kind === "gil" ? "" : row.thread.name;
    if (i < 0 || i >= lane.count) return [thread || "GIL", row.kind === "gil" ? "not seen here" : i < 0 ? "not started yet" : "has ended"];
    const step = (view.to - view.from) / Math.max(chart.over.clientWidth, 1);
    const last = lane.piece(at + step);
    if (last - i > 2) return [...crowd(row, at, step, i, last), thread].filter(Boolean);
    const when = `${time(lane.at[i], 1)} to ${time(lane.at[i + 1], 1)}, ${length(lane.at[i + 1] - lane.at[i])}`;
    if (row.kind === "gil") {
      const who = wordsOf(row, i);
      return [who ? `${who} holds the GIL` : "Nobody holds the GIL", when];
    }
    const number = lane.functions[i];
    const where = number >= 0 ? data.functions[number] : ["function unknown", ""];
    return [where[0], data.states[lane.states[i]].label, when, where[1], thread].filter(Boolean);
  }

  // A pixel with many pieces: what they are mostly.
  function crowd(row, at, step, first, last) {
    const totals = Array.from(row.lane.measure(at, at + step, first, last)), all = totals.reduce((sum, each) => sum + each, 0);
    const label = (kind) => (row.kind === "gil" ? (kind ? "held" : "free") : data.states[kind].label);
    const shares = new Map();
    totals.forEach((each, kind) => shares.set(label(kind), (shares.get(label(kind)) ?? 0) + each));
    const most = [...shares].filter((each) => each[1] > 0).sort((a, b) => b[1] - a[1]).slice(0, 3);
    const words = most.map(([name, each]) => `${name} ${Math.round((100 * each) / all)} %`);
    return [words.join(", "), `${(last - first).toLocaleString("en")} pieces in ${length(step)} at ${time(at)}`];
  }

  function showTip(lines, x, y) {
    tip.replaceChildren(...lines.map((line, number) => {
      const element = document.createElement("p");
      element.className = number === 0 ? "first" : number > 1 ? "faint" : "";
      element.dir = "auto";
      element.textContent = line;
      return element;
    }));
    tip.hidden = false;
    const { width, height } = tip.getBoundingClientRect();
    tip.style.left = `${Math.max(4, x + 14 + width > innerWidth ? x - width - 14 : x + 14)}px`;
    tip.style.top = `${Math.max(4, y + 18 + height > innerHeight ? y - height - 12 : y + 18)}px`;
  }

  const hideTip = () => (tip.hidden = true);

  function placeCursor() {
    const share = cursor === null ? -1 : (cursor - view.from) / (view.to - view.from);
    chart.setCursor({ left: share < 0 || share > 1 ? -10 : share * chart.over.clientWidth, top: 0 });
  }

  let announcing;

  // For the keyboard: the tip at the chosen lane, and the same words for a screen reader once the keys rest.
  function tell() {
    if (chosen < 0) return;
    const row = rows[chosen], box = chart.over.getBoundingClientRect();
    const x = box.left + ((inView() - view.from) / (view.to - view.from)) * box.width;
    const lines = describe(row, inView());
    placeCursor();
    showTip(lines, x, box.top + row.top + row.height / 2 - timeline.scrollTop);
    clearTimeout(announcing);
    announcing = setTimeout(() => (live.textContent = `${lines.join(", ")}. Shown: ${find("range").textContent}`), 150);
  }

  function choose(number) {
    rows[chosen]?.element.classList.remove("chosen");
    chosen = Math.min(Math.max(number, 0), rows.length - 1);
    const row = rows[chosen], room = timeline.clientHeight - AXIS;
    if (!row) return;
    row.element.classList.add("chosen");
    if (row.top < timeline.scrollTop) timeline.scrollTop = row.top;
    if (row.top + row.height > timeline.scrollTop + room) timeline.scrollTop = row.top + row.height - room;
    refresh();
  }

  // ------------------------------------------------------------------------------------------------- keys and pointers

  function stepTo(way) {
    const lane = rows[chosen]?.lane;
    if (!lane?.count) return;
    const i = lane.piece(inView());
    const next = Math.min(Math.max(i + way, 0), lane.count - 1);
    cursor = (lane.at[next] + Math.min(lane.at[next + 1], lane.at[next] + (view.to - view.from) / 2)) / 2;
    if (cursor < view.from || cursor > view.to) pan((cursor - (view.from + view.to) / 2) / (view.to - view.from));
    cursor = Math.min(Math.max(cursor, lane.at[next]), lane.at[next + 1] - 0.5);
    refresh();
  }

  const width = () => view.to - view.from;
  const keys = {
    ArrowLeft: (event) => (event.shiftKey ? stepTo(-1) : pan(-0.1)),
    ArrowRight: (event) => (event.shiftKey ? stepTo(1) : pan(0.1)),
    ArrowUp: () => choose(chosen - 1),
    ArrowDown: () => choose(chosen + 1),
    PageUp: () => choose(chosen - 10),
    PageDown: () => choose(chosen + 10),
    Home: () => { show(0, width()); cursor = view.from; },
    End: () => { show(end - width(), end); cursor = view.to - 1; },
    "+": () => zoom(0.5, inView()),
    "=": () => zoom(0.5, inView()),
    "-": () => zoom(2, inView()),
    0: moves.whole,
    Escape: hideTip,
    Enter: () => {
      const target = find(rows[chosen]?.anchor ?? "");
      hideTip();
      target?.scrollIntoView();
      target?.focus();
    },
  };

  timeline.addEventListener("keydown", (event) => {
    const action = event.ctrlKey || event.metaKey || event.altKey ? null : keys[event.key];
    if (!action || event.target !== timeline) return;
    event.preventDefault();
    action(event);
    if (event.key !== "Escape" && event.key !== "Enter") tell();
  });
  timeline.addEventListener("focus", () => {
    if (!timeline.matches(":focus-visible")) return;
    if (chosen < 0) choose(Math.max(rows.findIndex((row) => row.kind === "thread"), 0));
    cursor = inView();
    tell();
  });
  timeline.addEventListener("blur", hideTip);
  timeline.addEventListener("scroll", () => refresh(), { passive: true });
  find("tools").addEventListener("click", (event) => moves[event.target.closest("button")?.dataset.do]?.());

  function listenToPointers(over) {
    const down = new Map();
    let apart = 0;
    const at = (x) => view.from + ((x - over.getBoundingClientRect().left) / over.clientWidth) * (view.to - view.from);
    const hover = (event) => {
      const box = over.getBoundingClientRect(), y = event.clientY - box.top + timeline.scrollTop;
      const row = rows.find((each) => y >= each.top && y < each.top + each.height);
      cursor = at(event.clientX);
      if (row) showTip(describe(row, cursor), event.clientX, event.clientY);
      else hideTip();
    };
    const span = () => {
      const [a, b] = [...down.values()];
      return Math.max(Math.abs(a.x - b.x), 1);
    };
    over.addEventListener("pointerdown", (event) => {
      if (event.shiftKey || event.button !== 0) return;
      down.set(event.pointerId, { x: event.clientX, y: event.clientY });
      over.setPointerCapture(event.pointerId);
      if (down.size === 2) apart = span();
    });
    over.addEventListener("pointermove", (event) => {
      const last = down.get(event.pointerId);
      if (last) {
        const x = event.clientX - last.x, y = event.clientY - last.y;
        down.set(event.pointerId, { x: event.clientX, y: event.clientY });
        if (down.size === 1) {
          pan(-x / over.clientWidth);
          if (event.pointerType === "mouse") timeline.scrollTop -= y;
        } else if (down.size === 2) {
          const now = span(), [a, b] = [...down.values()];
          zoom(apart / now, at((a.x + b.x) / 2));
          apart = now;
        }
      }
      hover(event);
    });
    for (const name of ["pointerup", "pointercancel", "lostpointercapture"])
      over.addEventListener(name, (event) => down.delete(event.pointerId));
    over.addEventListener("pointerleave", hideTip);
    // The wheel scrolls the page as everywhere, unless Ctrl is held or the timeline was clicked.
    over.addEventListener("wheel", (event) => {
      const pixels = event.deltaMode === 0 ? 1 : event.deltaMode === 1 ? 16 : 400;
      const zooms = event.ctrlKey || event.metaKey || document.activeElement === timeline;
      if (Math.abs(event.deltaX) > Math.abs(event.deltaY) || (event.shiftKey && !event.ctrlKey)) {
        event.preventDefault();
        pan((((event.deltaX || event.deltaY) * pixels) / over.clientWidth) * 0.8);
      } else if (zooms) {
        event.preventDefault();
        const amount = Math.max(-240, Math.min(240, event.deltaY * pixels));
        zoom(Math.exp(amount * (event.ctrlKey && Math.abs(amount) < 50 ? 0.01 : 0.002)), at(event.clientX));
        hover(event);
      }
    }, { passive: false });
  }

  // ------------------------------------------------------------------------------------------------------------- theme

  const wishesDark = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : wishesDark.matches);

  function applyTheme() {
    find("theme").textContent = isDark() ? "Light" : "Dark";
    find("theme").setAttribute("aria-label", `Switch to ${isDark() ? "light" : "dark"} colours`);
    readColours();
    if (chart) refresh();
  }

  find("theme").hidden = false;
  find("theme").addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    applyTheme();
  });
  wishesDark.addEventListener("change", applyTheme);
  // Paper is white and doesn't scroll: for it the timeline is drawn light, narrower and whole.
  let before;
  addEventListener("beforeprint", () => {
    before = root.dataset.theme;
    root.dataset.theme = "light";
    root.dataset.printing = "";
    hideTip();
    readColours();
    if (chart) chart.batch(() => chart.setSize(size()));
  });
  addEventListener("afterprint", () => {
    delete root.dataset.printing;
    if (before) root.dataset.theme = before;
    else delete root.dataset.theme;
    applyTheme();
    if (chart) chart.batch(() => chart.setSize(size()));
  });

  // ------------------------------------------------------------------------------------------------------------- begin

  function size() {
    const last = rows.at(-1), whole = last.top + last.height + AXIS + 6;
    const room = "printing" in root.dataset ? TALLEST : Math.max(240, Math.round(innerHeight * 0.75));
    return { width: Math.max(plot.clientWidth, 60), height: Math.min(whole, room) };
  }

  function makeChart() {
    const axis = {
      side: 0, align: 1, size: AXIS, gap: 4, font: "11px system-ui, sans-serif", space: 90,
      incrs: Array.from({ length: 15 }, (_, power) => [1, 2, 5].map((digit) => digit * 10 ** power)).flat(),
      stroke: () => colours.faint,
      grid: { stroke: () => colours.line, width: 1 },
      ticks: { stroke: () => colours.line, width: 1, size: 5 },
      // Right of its line, and left out where it would not fit.
      values: (u, splits, __, ___, unit) => splits.map((split) => (u.valToPos(split, "x") > u.over.clientWidth - 50 ? "" : time(split, unit))),
    };
    chart = new uPlot({
      ...size(),
      padding: [0, MARGIN, 0, 0],
      legend: { show: false },
      cursor: {
        y: false, points: { show: false },
        drag: { x: true, y: false, setScale: false, dist: 4 },
        bind: {
          mousedown: (_, __, handle) => (event) => void (event.shiftKey && handle(event)),
          dblclick: () => () => void show(0, end),
        },
      },
      scales: { x: { time: false, range: (_, min, max) => [min, max] }, y: { range: [0, 1] } },
      axes: [axis, { show: false }],
      series: [{}, { show: false }],
      hooks: { draw: [draw], setSelect: [select] },
    }, [[0, end], [null, null]], plot);
    listenToPointers(chart.over);
    new ResizeObserver(() => {
      const wanted = size();
      timeline.style.maxHeight = `${wanted.height + 2}px`;
      if (wanted.width !== chart.width || wanted.height !== chart.height) chart.setSize(wanted);
    }).observe(plot.parentElement);
  }

  function select(u) {
    if (u.select.width < 1) return;
    const from = u.posToVal(u.select.left, "x"), to = u.posToVal(u.select.left + u.select.width, "x");
    u.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
    show(from, to);
  }

  const note = find("timeline-note");
  try {
    applyTheme();
    await makeRows();
    if (!rows.length) {
      note.textContent = "No process was seen: there is nothing to draw.";
      return;
    }
    const corner = document.createElement("div");
    corner.className = "corner";
    names.append(corner);
    rows.forEach(nameRow);
    note.hidden = true;
    timeline.hidden = find("tools").hidden = find("keys").hidden = false;
    makeChart();
    show(0, end);
    timeline.dataset.ready = "true";
  } catch (error) {
    note.hidden = false;
    note.textContent = `The timeline could not be drawn by this browser: ${error.message}`;
    throw error;
  }
})();
