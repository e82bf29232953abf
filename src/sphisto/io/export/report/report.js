// Shows what the report holds: sections, their genes, spots, outlines and numbers; it asks for nothing outside of the file.
// Places are full-resolution px of the section, as in the store; the reader is told um.
"use strict";
(() => {
  const byId = (id) => document.getElementById(id);
  const report = JSON.parse(byId("report").textContent);
  const canvas = byId("canvas"), context = canvas.getContext("2d"), stage = byId("stage");
  const CHANNEL_COLOURS = ["#ff3ec8", "#35e04b", "#29b6ff", "#ffc21a", "#ff5a36", "#b388ff"];
  const LINE_COLOURS = ["#ffffff", "#56b4e9", "#e69f00", "#f0e442", "#cc79a7", "#009e73"];
  const SWITCHES = ["image", "split", "spots", "outlined"]; // boxes, by their id, and what of the state they are
  const NO_SKILL = 0.05; // chance alone gives such correlations among some hundreds of spots
  const FADED = 0.45; // opacity of the tissue under measured spots
  const MOST_LISTED = 300, FIRST_ROWS = 100; // genes of the list, rows of the table
  const KEPT_BYTES = 2 ** 28; // of unpacked genes
  const MICRO = "\u00b5m";
  const state = {
    mode: "one", gene: "", several: [], map: Object.keys(report.maps)[0], opacity: 85, hold: false, held: 1, tops: new Map(),
    image: true, split: false, spots: false, outlined: true, view: { x: 0, y: 0, scale: 1, whole: true },
  };
  let live = null; // the section on show, unpacked
  let shown = []; // its genes that are painted: {gene, codes, sd, measured, top, colour}
  let latest = 0, opening = 0; // numbers of what was asked for last, genes and section: what was asked before is dropped
  let asked = 0; // the frame that is waited for

  // ---- elements: text is only ever set as text, so that no name is read as markup
  function h(tag, attributes = {}, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
      else if (name === "text") element.textContent = value;
      else if (name === "style") Object.assign(element.style, value); // an attribute of that name is not allowed
      else if (value !== null && value !== false) element.setAttribute(name, value === true ? "" : value);
    }
    element.append(...children.filter((child) => child !== null));
    return element;
  }

  const number = (value, digits = 4) => value.toLocaleString("en", { maximumSignificantDigits: digits });
  const fixed = (value, digits = 1) =>
    value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
  const clamp = (value, low, high) => Math.min(high, Math.max(low, value));
  const smoothly = () => (matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth");

  // ---- pixels and numbers, unpacked when they are needed
  async function unpack(blob) {
    const text = byId(`blob-${blob}`).textContent.replaceAll("!", "<"), pairs = text.length >> 1;
    const packed = new Uint8Array(((pairs * 13) >> 3) - (text.length & 1));
    for (let i = 0, at = 0, held = 0, bits = 0; i < 2 * pairs; i += 2) { // 13 bits in two of 91 characters, from # on
      held = (held << 13) | ((text.charCodeAt(i) - 35) * 91 + text.charCodeAt(i + 1) - 35);
      for (bits += 13; bits >= 8;) packed[at++] = held >> (bits -= 8);
    }
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
    return new Uint8Array(await new Response(stream).arrayBuffer());
  }

  const floats = async (blob) => new Float32Array((await unpack(blob)).buffer);
  const valueOf = (raster, code) => raster.low + (raster.high - raster.low) * (code / 255) ** 2;
  // each code is its difference from what 12 neighbours predict (see encoding.py); what is unknown is as what is above it
  async function codesOf({ blob, weights, levels, ends }, width, height, known) {
    const told = await unpack(blob), wide = width + 4, codes = new Uint8Array(wide * (height + 2));
    const [a, b, c, d, e, f, g, h, k, l, m, n, constant] = weights, perByte = { 4: 4, 6: 3, 16: 2 }[levels];
    const at = [0, ...ends], held = new Uint8Array(16), left = new Uint8Array(16); // at[16]: what lies further off
    for (let y = 0, i = 2 * wide + 2, pixel = 0; y < height; y++, i += 4) {
      for (let x = 0; x < width; x++, i++, pixel++) {
        const up = i - wide, above = up - wide;
        codes[i] = codes[up];
        if (known && !known[pixel]) continue;
        const predicted = a * codes[i - 1] + b * codes[up] + c * codes[up - 1] + d * codes[up + 1] + e * codes[i - 2]
          + f * codes[above] + g * codes[up - 2] + h * codes[above - 1] + k * codes[above + 1] + l * codes[up + 2]
          + m * codes[above - 2] + n * codes[above + 2] + constant + 2048;
        const group = (predicted >> 8) & 15;
        if (!left[group]--) [held[group], left[group]] = [told[at[group]++], perByte - 1];
        const digit = held[group] % levels;
        held[group] /= levels;
        codes[i] = (predicted >> 12) + (digit === levels - 1 ? told[at[16]++] : digit + 1 - levels / 2);
      }
    }
    for (let y = 0; y < height; y++) codes.copyWithin(y * width, (y + 2) * wide + 2, (y + 2) * wide + 2 + width);
    return codes.subarray(0, width * height);
  }

  async function geneOf(gene) {
    const { unpacked, about: { grid: { width, height } } } = live, found = unpacked.get(gene.name) ?? {};
    unpacked.delete(gene.name); // the last one used is the last one to go
    unpacked.set(gene.name, found);
    found.codes ??= codesOf(gene.codes, width, height, live.known);
    found.sd ??= gene.sd && codesOf(gene.sd.codes, gene.sd.width, gene.sd.height, null);
    found.measured ??= gene.measured === undefined ? null : floats(gene.measured);
    if (unpacked.size * width * height > KEPT_BYTES && unpacked.size > 1) unpacked.delete(unpacked.keys().next().value);
    return { gene, codes: await found.codes, sd: await found.sd, measured: await found.measured };
  }

  async function open(index) {
    const about = report.sections[index], { width, height } = about.grid;
    const bits = await unpack(about.tissue), known = new Uint8Array(width * height);
    for (let i = 0; i < known.length; i++) known[i] = (bits[i >> 3] >> (7 - (i & 7))) & 1;
    const image = about.image && await createImageBitmap(new Blob([await unpack(about.image.blob)]));
    const spots = about.spots && { xy: await floats(about.spots.xy), path: new Path2D() };
    for (let i = 0; spots && i < spots.xy.length; i += 2) spotPath(spots.path, spots.xy[i], spots.xy[i + 1], about.spots);
    const pathOf = async (blob) => new Path2D(new TextDecoder().decode(await unpack(blob)));
    const outlines = about.outlines.map(async ({ name, path }) => ({ name, path: await pathOf(path), shown: true }));
    const layer = h("canvas", { width, height });
    return { about, known, image, layer, spots, outlines: await Promise.all(outlines), unpacked: new Map() };
  }

  function spotPath(path, x, y, { size, shape }) {
    path.moveTo(x + size / 2, y);
    if (shape === "disc") path.arc(x, y, size / 2, 0, 2 * Math.PI);
    else path.rect(x - size / 2, y - size / 2, size, size);
  }

  // ---- colours
  const topOf = (gene) => (state.mode === "one" && state.hold ? state.held : state.tops.get(gene.name) ?? gene.top);
  const rgbOf = (hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
  const mapColour = (share) => rgbOf(report.maps[state.map][Math.round(clamp(share, 0, 1) * 255)]);
  // red, green and blue of a value of one of the genes on show; of several the light is added
  const lightOf = ({ top, colour }, value) =>
    state.mode === "one" ? mapColour(value / top) : rgbOf(colour).map((part) => part * clamp(value / top, 0, 1));

  function paintLayer() {
    const { width, height } = live.about.grid, { known, layer } = live;
    const target = layer.getContext("2d"), pixels = target.createImageData(width, height), data = pixels.data;
    for (const one of shown) {
      const { codes, gene } = one, levels = Array.from({ length: 256 }, (_, code) => valueOf(gene, code));
      const light = Float32Array.from(levels.flatMap((value) => lightOf(one, value)));
      for (let i = 0, to = 0; i < codes.length; i++, to += 4) {
        if (!known[i]) continue;
        const from = 3 * codes[i];
        data[to] += light[from];
        data[to + 1] += light[from + 1];
        data[to + 2] += light[from + 2];
        data[to + 3] = 255;
      }
    }
    target.putImageData(pixels, 0, 0);
  }

  // ---- drawing
  // side by side, or one above the other where the window is narrow
  function panes() {
    const { clientWidth: width, clientHeight: height } = stage, [w, t] = [width / 2, height / 2];
    if (!state.split) return [{ kind: "projected", x: 0, y: 0, width, height }];
    if (width >= height) return ["measured", "projected"].map((kind, i) => ({ kind, x: i * w, y: 0, width: w, height }));
    return ["measured", "projected"].map((kind, i) => ({ kind, x: 0, y: i * t, width, height: t }));
  }

  const draw = () => { asked ||= requestAnimationFrame(drawNow); };
  function drawNow() {
    asked = 0;
    if (!live) return;
    const dpr = devicePixelRatio || 1;
    [canvas.width, canvas.height] = [Math.round(stage.clientWidth * dpr), Math.round(stage.clientHeight * dpr)];
    for (const pane of panes()) drawPane(pane, dpr);
    drawScaleBar();
    byId("loading").hidden = true;
  }

  function drawPane(pane, dpr) {
    const { x, y, scale } = state.view, { about, image, layer, spots, outlines } = live, { grid } = about;
    context.save();
    context.setTransform(dpr, 0, 0, dpr, 0, 0);
    context.beginPath();
    context.rect(pane.x, pane.y, pane.width - (state.split && pane.x === 0 ? 1 : 0), pane.height);
    context.clip();
    context.translate(pane.x + pane.width / 2 - x * scale, pane.y + pane.height / 2 - y * scale);
    context.scale(scale, scale);
    if (image && state.image) {
      const { x0, y0, x1, y1 } = about.image;
      context.globalAlpha = pane.kind === "measured" ? FADED : 1;
      context.imageSmoothingEnabled = (scale * (x1 - x0)) / image.width < 3;
      context.drawImage(image, x0, y0, x1 - x0, y1 - y0);
    }
    if (pane.kind === "projected" && shown.length) {
      context.globalAlpha = state.opacity / 100;
      context.imageSmoothingEnabled = scale * grid.pxX < 3; // larger pixels are seen as what they are
      context.drawImage(layer, 0, 0, grid.width * grid.pxX, grid.height * grid.pxY);
    }
    context.globalAlpha = 1;
    if (spots && pane.kind === "measured") fillSpots(spots.xy, about.spots);
    else if (spots && state.spots) stroke(spots.path, "#ffffff", 1);
    outlines.forEach(({ path, shown: drawn }, k) => state.outlined && drawn && stroke(path, LINE_COLOURS[k % 6], 1.4));
    context.restore();
  }

  // light lines on dark ones are seen over white glass and over dark genes
  function stroke(path, colour, width) {
    for (const [style, wide] of [["rgb(0 0 0 / 0.55)", width + 1.6], [colour, width]]) {
      context.strokeStyle = style;
      context.lineWidth = wide / state.view.scale;
      context.stroke(path);
    }
  }

  function fillSpots(xy, about) {
    for (let i = 0; shown[0]?.measured && i < xy.length / 2; i++) {
      const path = new Path2D(), lights = shown.map((one) => lightOf(one, one.measured[i]));
      spotPath(path, xy[2 * i], xy[2 * i + 1], about);
      const rgb = lights.reduce((sum, light) => sum.map((part, c) => part + light[c]));
      context.fillStyle = `rgb(${rgb.join(" ")})`; // more than 255 is 255
      context.fill(path);
    }
  }

  function drawScaleBar() {
    const umPerCss = live.about.umPerPx / state.view.scale, longest = 130 * umPerCss * 1.000001;
    const power = 10 ** Math.floor(Math.log10(longest)), um = [5, 2, 1].map((n) => n * power).find((n) => n <= longest);
    byId("scale").firstElementChild.style.width = `${um / umPerCss}px`;
    byId("scale").lastElementChild.textContent = um >= 1000 ? `${um / 1000} mm` : `${number(um)} ${MICRO}`;
  }

  // ---- what is on show
  const genesOf = () => live.about.genes;
  const geneNamed = (wanted) => genesOf().find(({ name }) => name === wanted);
  // unpack and paint the genes on show; what is asked for meanwhile takes the place of what was asked before
  async function paint() {
    const ticket = ++latest, channels = state.mode === "one" ? [{ name: state.gene }] : state.several;
    const chosen = channels.map(({ name, colour }) => ({ gene: geneNamed(name), colour })).filter(({ gene }) => gene);
    const found = await Promise.all(chosen.map(({ gene }) => geneOf(gene)));
    if (ticket !== latest) return;
    shown = found.map((one, k) => ({ ...one, top: topOf(one.gene), colour: chosen[k].colour }));
    paintLayer();
    drawNow();
    drawLegend();
    drawPanel();
    const names = shown.map(({ gene }) => gene.name).join(", ") || "no gene";
    canvas.setAttribute("aria-label", `${live.about.name}: ${names} over the tissue, in ${live.about.unit}`);
    canvas.dataset.painted = names; // what the picture shows by now
    byId("status").textContent = `${names} shown`;
  }

  function drawLegend() {
    const map = Array.from({ length: 17 }, (_, i) => `rgb(${mapColour(i / 16).join(" ")})`).join(", ");
    const entries = shown.map(({ gene, top, colour }) => {
      const backgroundImage = `linear-gradient(to right, ${state.mode === "one" ? map : `#000, ${colour}`})`;
      const ticks = ["0", number(top / 2, 3), (gene.high > top ? "\u2265 " : "") + number(top, 3)];
      return h("div", {}, h("div", { class: "name", text: gene.name }), h("div", { class: "bar", style: { backgroundImage } }),
        h("div", { class: "ticks" }, ...ticks.map((text) => h("span", { text }))),
        gene.high <= 0 ? h("div", { class: "unit", text: "nothing but 0" }) : null);
    });
    byId("legend").replaceChildren(...entries, h("div", { class: "unit", text: live.about.unit }));
    byId("legend").hidden = !shown.length;
  }

  function drawPanel() {
    const one = state.mode === "one";
    [byId("one-scale").hidden, byId("channel-group").hidden] = [!one, one];
    if (shown.length && document.activeElement !== byId("top")) byId("top").value = Number(shown[0].top.toPrecision(4));
    byId("hold").checked = state.hold;
    for (const name of SWITCHES) byId(name).checked = state[name];
    byId("split").disabled = byId("spots").disabled = !live.spots;
    byId("opacity").value = state.opacity;
    byId("opacity").setAttribute("aria-valuetext", `${state.opacity} %`);
    for (const button of byId("genes").querySelectorAll("button")) {
      const { dataset: { gene }, firstElementChild: dot } = button, channel = state.several.find(({ name }) => name === gene);
      button.setAttribute("aria-pressed", String(one ? gene === state.gene : Boolean(channel)));
      dot.hidden = one;
      dot.style.background = channel?.colour ?? "transparent";
    }
    const [first, second] = panes();
    if (second) Object.assign(byId("pane-names").style, { left: `${second.x || second.width / 2}px`, top: `${second.y}px` });
    byId("pane-names").hidden = !second;
    byId("pane-names").className = second?.x ? "beside" : "below";
    for (const [k, pane] of [first, second].entries()) byId("pane-names").children[k].textContent = pane?.kind ?? "";
  }

  function listChannels() {
    byId("channels").replaceChildren(...state.several.map((channel) => {
      const { name, colour } = channel, gene = geneNamed(name), value = Number(topOf(gene).toPrecision(4));
      const tint = h("input", { type: "color", value: colour, "aria-label": `Colour of ${name}` });
      const top = h("input", { type: "number", min: 0, step: "any", value, "aria-label": `Full colour of ${name} at` });
      const out = h("button", { type: "button", class: "quiet small", text: "\u00d7", "aria-label": `Take ${name} out` });
      tint.oninput = () => { channel.colour = tint.value; paint(); };
      top.onchange = () => setTop(gene, Number(top.value));
      out.onclick = () => toggleChannel(gene);
      return h("li", {}, tint, h("span", { class: "name", text: name }), top, out);
    }));
  }

  const searched = () => byId("search").value.trim().toLowerCase();
  const matching = () => genesOf().filter(({ name }) => name.toLowerCase().includes(searched()));
  function listGenes() {
    const found = matching(), title = "Pearson correlation at left-out spots";
    byId("genes").replaceChildren(...found.slice(0, MOST_LISTED).map((gene) => {
      const skill = gene.skill === null ? "" : gene.skill < NO_SKILL ? "no skill" : `r ${gene.skill.toFixed(2)}`;
      return h("li", {}, h("button", { type: "button", "data-gene": gene.name, onclick: () => choose(gene) },
        h("span", { class: "dot" }), h("span", { class: "name", text: gene.name }), h("span", { class: "skill", text: skill, title })));
    }));
    const cut = found.length > MOST_LISTED ? [` The first ${MOST_LISTED} of ${found.length} genes are listed.`] : [];
    byId("missing").replaceChildren(...(searched() ? missing(searched(), found.length) : []), ...cut);
    drawPanel();
  }

  // what to do for a gene that the file does not hold
  function missing(text, nFound) {
    const names = genesOf().map(({ name }) => name), here = new Set(names), { gene: measured } = live.about.skill;
    const others = measured.filter((name) => !here.has(name) && name.toLowerCase().includes(text));
    if (!others.length) return nFound ? [] : [`No gene of that name is among the ${number(measured.length, 9)} of the table.`];
    const wanted = others.find((name) => name.toLowerCase() === text) ?? others[0];
    const more = others.length > 6 ? `, and ${others.length - 6} more` : "";
    const genes = [...names, wanted].map((name) => JSON.stringify(name)).join(", ");
    return [`Measured, but not in this file: ${others.slice(0, 6).join(", ")}${more}. Write it in with`,
      h("code", { text: `sphisto.pl.report(${JSON.stringify(report.store)}, genes=[${genes}])` })];
  }

  function choose(gene) {
    if (state.mode === "several") return toggleChannel(gene);
    state.gene = gene.name;
    return paint();
  }

  function toggleChannel({ name: toggled }) {
    const others = state.several.filter(({ name }) => name !== toggled).slice(1 - CHANNEL_COLOURS.length);
    const colour = CHANNEL_COLOURS.find((one) => !others.some((other) => other.colour === one));
    const was = state.several.some(({ name }) => name === toggled);
    state.several = was ? others : [...others, { name: toggled, colour: colour ?? CHANNEL_COLOURS[0] }];
    listChannels();
    return paint();
  }

  function step(by) {
    const found = matching();
    if (!found.length || state.mode !== "one") return;
    const at = found.findIndex(({ name }) => name === state.gene);
    choose(found[(at + by + found.length) % found.length]);
    byId("genes").querySelector(`[data-gene="${CSS.escape(state.gene)}"]`)?.scrollIntoView({ block: "nearest" });
  }

  function setTop(gene, top) {
    if (!(top > 0)) return;
    if (state.mode === "one" && state.hold) state.held = top;
    else state.tops.set(gene.name, top);
    paint();
  }

  function setMode(mode) {
    state.mode = mode;
    const names = new Set([state.gene, ...genesOf().map(({ name }) => name)].filter(Boolean));
    if (mode === "several" && !state.several.length) {
      state.several = [...names].slice(0, 2).map((name, k) => ({ name, colour: CHANNEL_COLOURS[k] }));
    }
    listChannels();
    return paint();
  }

  function toggle(name) {
    state[name] = !state[name] && (live.spots !== null || (name !== "split" && name !== "spots"));
    refit();
    drawPanel();
  }

  const say = (text) => { byId("loading").hidden = true; byId("readout").replaceChildren(text); byId("status").textContent = text; };
  async function show(index) {
    const ticket = ++opening, opened = await open(index);
    if (ticket !== opening) return;
    live = opened;
    state.tops.clear(); // each section has scales of its own
    const { about } = live, { grid } = about, names = genesOf().map(({ name }) => name);
    if (!names.includes(state.gene)) state.gene = names[0] ?? "";
    state.several = state.several.filter(({ name }) => names.includes(name));
    const finest = `level ${grid.level} of the pyramid, the finest has ${fixed(grid.finestUmPerPx, 2)} ${MICRO} per px`;
    const size = `${grid.width} \u00d7 ${grid.height} px of ${fixed(grid.umPerPx, 2)} ${MICRO}${grid.level ? ` (${finest})` : ""}`;
    byId("subtitle").textContent = byId("subtitle").title = `${about.name} \u00b7 ${size} \u00b7 ${about.unit}`;
    byId("outlines").replaceChildren(...live.outlines.map((outline, k) => {
      const box = h("input", { type: "checkbox", checked: true, onchange: () => { outline.shown = box.checked; draw(); } });
      const swatch = h("span", { class: "swatch", style: { background: LINE_COLOURS[k % 6] } });
      return h("li", {}, h("label", { class: "check" }, box, h("span", { text: outline.name }), swatch));
    }));
    for (const part of document.querySelectorAll("[data-section]")) part.hidden = part.dataset.section !== String(index);
    byId("readout").replaceChildren();
    listGenes();
    listChannels();
    fillSkill(FIRST_ROWS);
    fit();
    await paint();
  }

  // ---- view
  function fit() {
    const [x0, y0, x1, y1] = live.about.extent, { width, height } = panes()[0];
    const scale = 0.9 * Math.min(width / (x1 - x0), height / (y1 - y0));
    state.view = { x: (x0 + x1) / 2, y: (y0 + y1) / 2, scale, whole: true };
    draw();
  }
  const refit = () => (state.view.whole ? fit() : draw()); // what was closer stays as close
  function worldAt(x, y) {
    const all = panes(), pane = all.findLast((one) => x >= one.x && y >= one.y) ?? all[0], { view } = state;
    const [dx, dy] = [x - pane.x - pane.width / 2, y - pane.y - pane.height / 2];
    return { pane, x: view.x + dx / view.scale, y: view.y + dy / view.scale };
  }

  function zoom(factor, x = panes()[0].width / 2, y = panes()[0].height / 2) {
    const before = worldAt(x, y), { grid } = live.about, { width, height } = panes()[0];
    const least = 0.3 * Math.min(width / (grid.width * grid.pxX), height / (grid.height * grid.pxY));
    state.view.scale = clamp(state.view.scale * factor, least, 60 / Math.min(grid.pxX, grid.pxY));
    const after = worldAt(x, y);
    move(before.x - after.x, before.y - after.y);
  }

  function move(dx, dy) {
    const { grid } = live.about;
    state.view.x = clamp(state.view.x + dx, 0, grid.width * grid.pxX);
    state.view.y = clamp(state.view.y + dy, 0, grid.height * grid.pxY);
    state.view.whole = false;
    draw();
  }

  // ---- what is under the cursor
  function read(x, y) {
    const place = worldAt(x, y), { about, known, spots } = live, { grid, umPerPx } = about;
    const column = Math.floor(place.x / grid.pxX), row = Math.floor(place.y / grid.pxY), at = row * grid.width + column;
    const within = column >= 0 && row >= 0 && column < grid.width && row < grid.height;
    const where = `x ${fixed(place.x * umPerPx)} ${MICRO}, y ${fixed(place.y * umPerPx)} ${MICRO}`;
    const lines = [h("div", { class: "where", text: where + (within ? ` (column ${column}, row ${row})` : "") })];
    if (!within || !known[at]) lines.push(h("div", { text: within ? "outside tissue" : "outside the section" }));
    for (const { gene, codes, sd } of within && known[at] ? shown : []) {
      const block = Math.floor(row / report.sdStride) * gene.sd?.width + Math.floor(column / report.sdStride);
      const deviation = sd ? ` \u00b1 ${number(valueOf(gene.sd, sd[block]), 3)}` : "";
      lines.push(h("div", {}, h("span", { class: "gene", text: gene.name }), " ",
        h("b", { text: number(valueOf(gene, codes[at])) }), `${deviation} ${about.unit}`));
    }
    const spot = spots && shown[0]?.measured ? spotAt(place.x, place.y, about.spots) : -1;
    if (spot >= 0) {
      const counts = shown.map(({ gene, measured }) => `${shown.length > 1 ? `${gene.name} ` : ""}${number(measured[spot])}`);
      lines.push(h("div", { text: `spot ${about.spots.names[spot]}: ${counts.join(", ")} ${about.spots.unit}` }));
    }
    byId("readout").replaceChildren(...lines);
    const other = panes().find((pane) => pane.kind !== place.pane.kind);
    byId("crosshair").hidden = !other;
    if (!other) return;
    const [left, top] = [x - place.pane.x + other.x, y - place.pane.y + other.y];
    Object.assign(byId("crosshair").style, { left: `${left}px`, top: `${top}px` });
  }

  function spotAt(x, y, { size, shape }) {
    const { xy } = live.spots, far = shape === "disc" ? Math.hypot : Math.max;
    for (let i = 0; i < xy.length; i += 2) if (far(Math.abs(xy[i] - x), Math.abs(xy[i + 1] - y)) <= size / 2) return i / 2;
    return -1;
  }

  // ---- numbers below the map
  function selectTab(chosen) {
    for (const tab of byId("tabs").children) {
      tab.setAttribute("aria-selected", String(tab === chosen));
      tab.tabIndex = tab === chosen ? 0 : -1;
      byId(tab.getAttribute("aria-controls")).hidden = tab !== chosen;
    }
  }

  function listenTab(tab, k, all) {
    tab.addEventListener("click", () => {
      selectTab(tab);
      byId("tabs").scrollIntoView({ behavior: smoothly() });
    });
    tab.addEventListener("keydown", (event) => {
      const to = { ArrowRight: k + 1, ArrowLeft: k - 1, Home: 0, End: -1 }[event.key];
      if (to === undefined) return;
      event.preventDefault();
      selectTab(all.at(to % all.length));
      all.at(to % all.length).focus();
    });
  }

  const sorting = { by: "r", way: -1 };
  function sortBy(column) {
    const way = sorting.by === column ? -sorting.way : column === "gene" ? 1 : -1;
    Object.assign(sorting, { by: column, way });
    fillSkill(FIRST_ROWS);
  }

  function fillSkill(most) {
    const { skill } = live.about, heads = [...byId("skill-head").children], here = new Set(genesOf().map(({ name }) => name));
    if (!skill[sorting.by]) Object.assign(sorting, { by: "gene", way: 1 });
    const { by, way } = sorting, text = byId("skill-filter").value.trim().toLowerCase(), only = byId("skill-here").checked;
    const wanted = (name) => name.toLowerCase().includes(text) && (!only || here.has(name));
    const rows = [...skill.gene.keys()].filter((i) => wanted(skill.gene[i]));
    const values = skill[by], unknown = (i) => Number(values[i] === null); // these come last, whichever way
    rows.sort((a, b) => unknown(a) - unknown(b) || way * (Number(values[a] > values[b]) - Number(values[a] < values[b])) || a - b);
    for (const head of heads) {
      head.hidden = !skill[head.dataset.column];
      head.setAttribute("aria-sort", head.dataset.column !== by ? "none" : way > 0 ? "ascending" : "descending");
    }
    const columns = heads.map((head) => head.dataset.column).filter((column) => skill[column]);
    byId("skill-rows").replaceChildren(...rows.slice(0, most).map((i) =>
      h("tr", {}, ...columns.map((column) => skillCell(column, skill[column][i], here)))));
    byId("skill-count").textContent = `${number(rows.length, 9)} of ${number(skill.gene.length, 9)} genes`;
    byId("skill-more").hidden = rows.length <= most;
  }

  function skillCell(column, value, here) {
    if (value === null) return h("td", { text: "\u2013" });
    if (column === "mean" || column === "dispersion") return h("td", { text: number(value, 3) });
    if (column === "deviance") return h("td", { text: fixed(value, 3) });
    if (column === "r") {
      const bar = h("i", { style: { width: `${100 * clamp(value, 0, 1)}%` } });
      return h("td", {}, h("span", { class: "meter" }, bar), fixed(value, 3));
    }
    const onclick = () => { choose(geneNamed(value)); scrollTo({ top: 0, behavior: smoothly() }); };
    return here.has(value) ? h("td", {}, h("button", { type: "button", text: value, onclick })) : h("td", { text: value });
  }

  // ---- events
  function setTheme(theme) {
    const other = theme === "dark" ? "light" : "dark";
    document.documentElement.dataset.theme = theme;
    byId("theme").textContent = other[0].toUpperCase() + other.slice(1);
    byId("theme").setAttribute("aria-label", `${byId("theme").textContent} theme`);
  }
  const otherTheme = () => setTheme(document.documentElement.dataset.theme === "dark" ? "light" : "dark");
  const openHelp = () => byId("help").showModal();
  const setAuto = () => { state.tops.delete(state.gene); state.held = geneNamed(state.gene)?.top ?? 1; paint(); };
  function listenCanvas() {
    const pointers = new Map(); // those that are down, where they were last
    const at = ({ clientX, clientY }, { left, top } = canvas.getBoundingClientRect()) => [clientX - left, clientY - top];
    const on = (type, act, options) => canvas.addEventListener(type, (event) => live && act(event, ...at(event)), options);
    on("wheel", (event, x, y) => {
      event.preventDefault();
      zoom(Math.exp(-clamp(event.deltaY * (event.deltaMode ? 16 : 1), -240, 240) / 400), x, y);
      read(x, y);
    }, { passive: false });
    on("pointerdown", (event, x, y) => {
      canvas.setPointerCapture(event.pointerId);
      pointers.set(event.pointerId, [x, y]);
      canvas.classList.add("dragged");
    });
    on("pointermove", (event, x, y) => {
      const before = pointers.get(event.pointerId), other = [...pointers].find(([id]) => id !== event.pointerId)?.[1];
      if (before && other) { // two fingers: apart and together
        const far = (a) => Math.max(1, Math.hypot(a[0] - other[0], a[1] - other[1]));
        zoom(far([x, y]) / far(before), (x + other[0]) / 2, (y + other[1]) / 2);
      } else if (before) move((before[0] - x) / state.view.scale, (before[1] - y) / state.view.scale);
      if (before) pointers.set(event.pointerId, [x, y]);
      read(x, y);
    });
    for (const type of ["pointerup", "pointercancel"]) {
      on(type, ({ pointerId }) => { pointers.delete(pointerId); canvas.classList.toggle("dragged", pointers.size > 0); });
    }
    on("pointerleave", () => { byId("crosshair").hidden = true; byId("readout").replaceChildren(); });
    on("dblclick", (event, x, y) => zoom(2, x, y));
  }

  function listenPanel() {
    const on = (id, type, act) => byId(id).addEventListener(type, (event) => live && act(event.target, event));
    for (const name of SWITCHES) on(name, "change", () => toggle(name));
    on("opacity", "input", ({ value }) => { state.opacity = Number(value); drawPanel(); draw(); });
    on("map", "change", ({ value }) => { state.map = value; paint(); });
    on("top", "change", ({ value }) => shown.length && setTop(shown[0].gene, Number(value)));
    on("top-auto", "click", setAuto);
    on("hold", "change", ({ checked: hold }) => { Object.assign(state, { hold, held: shown[0]?.top ?? 1 }); paint(); });
    on("search", "input", listGenes);
    on("search", "keydown", (box, { key }) => {
      if (key === "Enter" && matching().length) choose(matching()[0]);
      if (key === "Escape") { box.value = ""; listGenes(); canvas.focus(); }
    });
    for (const radio of document.getElementsByName("mode")) radio.addEventListener("change", () => setMode(radio.value));
    on("section", "change", ({ value }) => show(Number(value)));
    on("zoom-in", "click", () => zoom(1.5));
    on("zoom-out", "click", () => zoom(1 / 1.5));
    on("zoom-fit", "click", fit);
    on("theme", "click", otherTheme);
    on("help-open", "click", openHelp);
    on("skill-filter", "input", () => fillSkill(FIRST_ROWS));
    on("skill-here", "change", () => fillSkill(FIRST_ROWS));
    on("skill-more", "click", () => fillSkill(byId("skill-rows").childElementCount + 500));
    for (const head of byId("skill-head").children) head.addEventListener("click", () => sortBy(head.dataset.column));
    [...byId("tabs").children].forEach(listenTab);
  }

  const KEYS = {
    "+": () => zoom(1.25), "=": () => zoom(1.25), "-": () => zoom(0.8), 0: fit, "[": () => step(-1), "]": () => step(1),
    s: () => toggle("spots"), m: () => toggle("split"), o: () => toggle("outlined"), i: () => toggle("image"), t: otherTheme,
    "?": openHelp, "/": () => byId("search").focus(),
  };
  const ARROWS = { ArrowLeft: [-60, 0], ArrowRight: [60, 0], ArrowUp: [0, -60], ArrowDown: [0, 60] };
  function press(event) {
    const { target, key } = event, typed = "select, dialog, input:not([type=checkbox], [type=range], [type=radio])";
    if (!live || target.closest(typed) || event.ctrlKey || event.metaKey || event.altKey) return;
    const way = target === canvas || target === document.body ? ARROWS[key] : null, act = KEYS[key];
    if (!way && !act) return;
    event.preventDefault();
    if (way) move(way[0] / state.view.scale, way[1] / state.view.scale);
    else act();
  }

  function begin() {
    const dark = matchMedia("(prefers-color-scheme: dark)");
    setTheme(dark.matches ? "dark" : "light");
    dark.addEventListener("change", () => setTheme(dark.matches ? "dark" : "light"));
    byId("title").textContent = report.title;
    byId("section").append(...report.sections.map(({ name }, value) => h("option", { value, text: name })));
    byId("section-choice").hidden = report.sections.length < 2;
    byId("map").append(...Object.keys(report.maps).map((value) => h("option", { value, text: value })));
    listenCanvas();
    listenPanel();
    document.addEventListener("keydown", press);
    new ResizeObserver(() => { if (live) { refit(); drawPanel(); } }).observe(stage);
    const old = !("DecompressionStream" in window) && "it takes Chrome 80, Firefox 113, Safari 16.4 or newer";
    show(0).catch(({ message }) => say(`The file cannot be read: ${old || `it may be damaged (${message}); write it again`}.`));
  }
  begin();
})();
