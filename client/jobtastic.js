// The one script a page needs: <script type="module" src=".../jobtastic.js"></script>
import { JobtasticProgress } from './element.js';
import { JobtasticList } from './list.js';
import { watchTask } from './watch.js';
import { strings } from './words.js';

if (globalThis.customElements && !customElements.get('jobtastic-progress')) {
  customElements.define('jobtastic-progress', JobtasticProgress);
  customElements.define('jobtastic-list', JobtasticList);
}

export { JobtasticList, JobtasticProgress, strings, watchTask };
