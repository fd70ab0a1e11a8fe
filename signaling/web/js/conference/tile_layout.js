/**
 * Where each tile of a conference stands: numbers in, numbers out, in CSS pixels.
 */

const GAP = 8;
const LEAST_WIDTH = 150; // a face is a face, and a name can be read
const LEAST_HEIGHT = 112;
const WIDEST = 16 / 9;
const HIGHEST = 4 / 3; // height over width: cameras of phones
export const MAX_PER_PAGE = 20;
const STRIP_SHARE = 0.2; // of the height, for those beside whom one looks at
const STRIP_LEAST = 88;
const STRIP_MOST = 140;
const STRIP_RATIO = 4 / 3;
/** Below this the one that is looked at gets all there is. */
const LEAST_FOR_STRIP = 260;

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
 * @param {number} options.page which page is wanted, from 0; the last one if there are fewer
 * @returns {Arrangement}
 */
export function arrange({ count, width, height, focus, page }) {
  if (count === 0 || width <= 0 || height <= 0) return { rects: new Array(count).fill(null), page: 0, pages: 1 };
  return focus === null ? arrangeGrid(count, width, height, page) : arrangeFocus(count, width, height, focus, page);
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
  let best = { columns: 1, tileWidth: 0, tileHeight: 0 };
  for (let columns = 1; columns <= count; columns += 1) {
    const rows = Math.ceil(count / columns);
    const cellWidth = (width - GAP * (columns - 1)) / columns;
    const cellHeight = (height - GAP * (rows - 1)) / rows;
    const tileWidth = Math.max(1, Math.min(cellWidth, cellHeight * WIDEST));
    const tileHeight = Math.max(1, Math.min(cellHeight, cellWidth * HIGHEST));
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

/** @returns {Arrangement} */
function arrangeFocus(count, width, height, focus, wantedPage) {
  const others = count - 1;
  const stripHeight = height < LEAST_FOR_STRIP ? 0 : Math.min(STRIP_MOST, Math.max(STRIP_LEAST, height * STRIP_SHARE));
  const tileWidth = Math.min(width, stripHeight * STRIP_RATIO);
  const perPage = stripHeight === 0 ? 0 : Math.max(1, Math.floor((width + GAP) / (tileWidth + GAP)));
  if (others === 0 || perPage === 0) {
    const rects = new Array(count).fill(null);
    rects[focus] = rounded({ left: 0, top: 0, width, height });
    return { rects, page: 0, pages: 1 };
  }
  const pages = Math.ceil(others / perPage);
  const page = Math.min(Math.max(0, wantedPage), pages - 1);
  const first = page * perPage;
  const shown = Math.min(perPage, others - first);
  const left = (width - shown * tileWidth - GAP * (shown - 1)) / 2;
  const rects = Array.from({ length: count }, (_, at) => {
    if (at === focus) return rounded({ left: 0, top: 0, width, height: height - stripHeight - GAP });
    const place = at - (at > focus ? 1 : 0) - first;
    if (place < 0 || place >= shown) return null;
    return rounded({ left: left + place * (tileWidth + GAP), top: height - stripHeight, width: tileWidth, height: stripHeight });
  });
  return { rects, page, pages };
}

/** @param {Rect} rect */
function rounded({ left, top, width, height }) {
  return { left: Math.floor(left), top: Math.floor(top), width: Math.floor(width), height: Math.floor(height) };
}
