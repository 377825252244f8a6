// The one script a page needs: <script type="module" src=".../jobtastic.js"></script>
import { JobtasticProgress } from './element.js';
import { watchTask } from './watch.js';
import { strings } from './words.js';

if (globalThis.customElements && !customElements.get('jobtastic-progress')) {
  customElements.define('jobtastic-progress', JobtasticProgress);
}

export { JobtasticProgress, strings, watchTask };
