/**
 * Where each tile of a conference stands: numbers in, numbers out, in CSS pixels.
 */

const GAP = 8;
const LEAST_WIDTH = 150; // a face is a face, and a name can be read
const LEAST_HEIGHT = 112;
const WIDEST = 16 / 9;
const HIGHEST_UPRIGHT = 4 / 3; // height over width, where the place is upright: cameras of phones
const HIGHEST_ACROSS = 1; // elsewhere it would cut off hands and neighbours
const CAMERA_RATIO = 16 / 9; // width over height, while nobody knows better
export const MAX_PER_PAGE = 20;

/** Those beside whom one looks at: in a row below, or in a column at the side. */
const ROW = { share: 0.2, least: 88, most: 140, ratio: 4 / 3, leastPerPage: 4 }; // of the height
const COLUMN = { share: 0.16, least: 96, most: 152, ratio: 4 / 3 }; // of the width
/** Below this the one that is looked at gets all there is. */
const LEAST_FOR_STRIP = 220;

/**
 * @typedef {{ left: number, top: number, width: number, height: number }} Rect
 * @typedef {{ rects: (Rect | null)[], page: number, pages: number }} Arrangement `rects`: of each tile; null if it is on another page
 */

/**
 * @param {object} options
 * @param {number} options.count of tiles
 * @param {number} options.width of the place for them
 * @param {number} options.height
 * @param {number | null} options.focus the tile that is to be large; null for none
 * @param {number | null} [options.ratio] of the picture in it, width over height: the tile is no larger than the picture; null if
 *   there is none, and the tile takes all the room
 * @param {boolean} [options.alone] the large one is the only one to be shown
 * @param {number} options.page which page is wanted, from 0; the last one if there are fewer
 * @returns {Arrangement}
 */
export function arrange({ count, width, height, focus, ratio = null, alone = false, page }) {
  if (count === 0 || width <= 0 || height <= 0) return { rects: new Array(count).fill(null), page: 0, pages: 1 };
  return focus === null ? arrangeGrid(count, width, height, page) : arrangeFocus({ count, width, height, focus, ratio, alone, page });
}

/**
 * How large a picture is drawn in a tile, with what the tile cuts off.
 *
 * @param {{ width: number, height: number }} tile
 * @param {number | null} ratio width over height of the picture; null if it is not known
 * @param {"cover" | "contain"} fit
 * @returns {{ width: number, height: number }}
 */
export function pictureSize({ width, height }, ratio, fit) {
  if (ratio === null || width === 0 || height === 0) return { width, height };
  const byWidth = fit === "cover" ? width / height > ratio : width / height < ratio;
  return byWidth ? { width, height: width / ratio } : { width: height * ratio, height };
}

/** @returns {Arrangement} */
function arrangeGrid(count, width, height, wantedPage) {
  const holds = (size, least) => Math.max(1, Math.floor((size + GAP) / (least + GAP)));
  const capacity = Math.min(MAX_PER_PAGE, holds(width, LEAST_WIDTH) * holds(height, LEAST_HEIGHT));
  const pages = Math.ceil(count / capacity);
  const perPage = Math.ceil(count / pages); // pages of about the same number, not a last one with a single tile
  const page = Math.min(Math.max(0, wantedPage), pages - 1);
  const first = page * perPage;
  const shown = Math.min(perPage, count - first);
  const cells = bestGrid(shown, width, height);
  const rects = Array.from({ length: count }, (_, at) => (at >= first && at < first + shown ? cells[at - first] : null));
  return { rects, page, pages };
}

/**
 * As many columns as make the tiles largest.
 *
 * @returns {Rect[]}
 */
function bestGrid(count, width, height) {
  const highest = height > width ? HIGHEST_UPRIGHT : HIGHEST_ACROSS;
  let best = { columns: 1, tileWidth: 0, tileHeight: 0 };
  for (let columns = 1; columns <= count; columns += 1) {
    const rows = Math.ceil(count / columns);
    const cellWidth = (width - GAP * (columns - 1)) / columns;
    const cellHeight = (height - GAP * (rows - 1)) / rows;
    const tileWidth = Math.max(1, Math.min(cellWidth, cellHeight * WIDEST));
    const tileHeight = Math.max(1, Math.min(cellHeight, cellWidth * highest));
    // What counts is how large a picture of a camera is in it.
    const size = (each) => Math.min(each.tileWidth / 4, each.tileHeight / 3);
    if (size({ tileWidth, tileHeight }) > size(best)) best = { columns, tileWidth, tileHeight };
  }
  const { columns, tileWidth, tileHeight } = best;
  const rows = Math.ceil(count / columns);
  const top = (height - rows * tileHeight - GAP * (rows - 1)) / 2;
  return Array.from({ length: count }, (_, at) => {
    const row = Math.floor(at / columns);
    const inRow = Math.min(columns, count - row * columns);
    const left = (width - inRow * tileWidth - GAP * (inRow - 1)) / 2; // the last row stands in the middle
    return rounded({
      left: left + (at % columns) * (tileWidth + GAP),
      top: top + row * (tileHeight + GAP),
      width: tileWidth,
      height: tileHeight,
    });
  });
}

/**
 * One large, the others small beside it: wherever they leave more of its picture.
 *
 * @returns {Arrangement}
 */
function arrangeFocus({ count, width, height, focus, ratio, alone, page: wantedPage }) {
  const others = alone ? 0 : count - 1;
  const rects = new Array(count).fill(null);
  const strips = others === 0 ? [] : [rowsBelow, columnsBeside].map((strip) => strip(width, height, ratio ?? CAMERA_RATIO, others));
  const [best] = strips.filter(({ perPage }) => perPage > 0).sort((a, b) => b.picture.width - a.picture.width);
  if (best === undefined) {
    rects[focus] = inMiddle({ width, height }, ratio);
    return { rects, page: 0, pages: 1 };
  }
  const { room, perPage, perLine, tile, at } = best;
  const pages = Math.ceil(others / perPage);
  const page = Math.min(Math.max(0, wantedPage), pages - 1);
  const first = page * perPage;
  const shown = Math.min(perPage, others - first);
  rects[focus] = inMiddle(room, ratio);
  const each = Math.ceil(shown / Math.ceil(shown / perLine)); // lines of about the same number
  for (let place = 0; place < shown; place += 1) {
    const other = first + place;
    const line = Math.floor(place / each);
    const inLine = Math.min(each, shown - line * each);
    rects[other < focus ? other : other + 1] = rounded({ ...at(line, place % each, inLine), ...tile });
  }
  return { rects, page, pages };
}

/**
 * @typedef {object} Strip
 * @property {{ width: number, height: number }} room what it leaves
 * @property {{ width: number, height: number }} picture the large one in there
 * @property {number} perPage 0 if there is no room for it
 * @property {number} perLine
 * @property {{ width: number, height: number }} tile
 * @property {(line: number, place: number, inLine: number) => { left: number, top: number }} at
 */

/** @returns {Strip} */
function rowsBelow(width, height, ratio, others) {
  const thick = clamp(height * ROW.share, ROW.least, ROW.most);
  const narrowest = (width - GAP * (ROW.leastPerPage - 1)) / ROW.leastPerPage;
  const tile = { width: Math.min(thick * ROW.ratio, Math.max(narrowest, 1)), height: thick };
  const perLine = height < LEAST_FOR_STRIP ? 0 : Math.floor((width + GAP) / (tile.width + GAP));
  const picture = pictureSize({ width, height: height - thick - GAP }, ratio, "contain");
  const lines = linesOf(height - picture.height, thick, perLine, others);
  const top = height - lines * (thick + GAP) + GAP;
  return {
    room: { width, height: top - GAP },
    picture,
    perPage: perLine * lines,
    perLine,
    tile,
    at: (line, place, inLine) => ({
      left: startOf(width, tile.width, inLine) + place * (tile.width + GAP),
      top: top + line * (thick + GAP),
    }),
  };
}

/** @returns {Strip} */
function columnsBeside(width, height, ratio, others) {
  const thick = clamp(width * COLUMN.share, COLUMN.least, COLUMN.most);
  const tile = { width: thick, height: thick / COLUMN.ratio };
  const perLine = height < LEAST_FOR_STRIP || width < 2 * LEAST_FOR_STRIP ? 0 : Math.floor((height + GAP) / (tile.height + GAP));
  const picture = pictureSize({ width: width - thick - GAP, height }, ratio, "contain");
  const lines = linesOf(width - picture.width, thick, perLine, others);
  const left = width - lines * (thick + GAP) + GAP;
  return {
    room: { width: left - GAP, height },
    picture,
    perPage: perLine * lines,
    perLine,
    tile,
    at: (line, place, inLine) => ({
      left: left + line * (thick + GAP),
      top: startOf(height, tile.height, inLine) + place * (tile.height + GAP),
    }),
  };
}

/** As many lines of tiles as there is room for beside the large picture, and use for. */
function linesOf(spare, thick, perLine, others) {
  return clamp(Math.floor(spare / (thick + GAP)), 1, Math.max(1, Math.ceil(others / perLine)));
}

/** Where tiles begin that stand in the middle of a length. */
function startOf(length, size, count) {
  return (length - count * size - GAP * (count - 1)) / 2;
}

/**
 * @param {{ width: number, height: number }} room that begins at the upper left
 * @param {number | null} ratio
 */
function inMiddle(room, ratio) {
  const picture = pictureSize(room, ratio, "contain");
  const { width, height } = picture.width < LEAST_WIDTH ? room : picture; // a low place leaves no room for the name
  return rounded({ left: (room.width - width) / 2, top: (room.height - height) / 2, width, height });
}

function clamp(value, least, most) {
  return Math.min(most, Math.max(least, value));
}

/** @param {Rect} rect */
function rounded({ left, top, width, height }) {
  return { left: Math.floor(left), top: Math.floor(top), width: Math.floor(width), height: Math.floor(height) };
}
